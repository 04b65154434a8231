"""A whole platform on one machine: ``hansa up`` leaves it running, ``hansa demo`` runs the main job through it."""
