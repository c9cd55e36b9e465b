"""Request, response, job and event models of the HTTP API; shared by routes, agents and client."""
