"""Datalists, volumes and their checks, prepared cases."""
