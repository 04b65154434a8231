"""Heart disease from thirteen routine measurements, learned by hospitals that keep their records."""
