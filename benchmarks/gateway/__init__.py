"""What a proxied terminal costs: our gateway beside nginx and HAProxy, on the same upstream."""
