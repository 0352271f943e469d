"""An exchange that behaves like Extended, without sockets: bytes and values in, values out."""
