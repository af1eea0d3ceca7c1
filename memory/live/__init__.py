"""What goes on right now, shared between the processes of one server: contracts and back ends."""
