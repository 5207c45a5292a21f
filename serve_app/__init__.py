"""What a client sees: the REST API, the web page and the Serve application that binds them."""
