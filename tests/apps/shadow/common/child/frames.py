raise RuntimeError("the platform imported the tenant's module")
