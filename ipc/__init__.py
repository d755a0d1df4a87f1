"""State subscriptions between the workers: frames, messages, publish/subscribe, peer credentials."""
