"""HTTP routes: translate, call the service, translate back."""
