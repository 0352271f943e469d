"""Virtual time for the whole process."""
