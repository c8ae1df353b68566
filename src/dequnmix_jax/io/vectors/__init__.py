"""Polygons from GeoJSON, GeoPackage and shapefiles, read without further packages; `polygons.read_polygons` chooses."""
