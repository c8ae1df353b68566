"""Scenes, methods, trainings and tables that the experiments share."""
