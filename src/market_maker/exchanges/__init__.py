"""Gateways: the hosts that stand behind the port."""
