"""Scenes, data, measurements and the command line; the top floor, which may import everything."""
