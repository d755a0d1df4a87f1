"""The node side: its process, its socket, its metrics, its network's slots."""
