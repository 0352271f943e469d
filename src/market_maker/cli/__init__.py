"""The command line, `mm`."""
