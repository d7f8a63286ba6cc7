"""Fruits as clouds of surface elements: the brush that makes them, the kinds, and the camera."""
