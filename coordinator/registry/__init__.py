"""What a model version is made of: its graph, its tensor table, its manifest."""
