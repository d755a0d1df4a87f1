"""The image: what it is built on, how it is built, listed and published, and real pods of it."""
