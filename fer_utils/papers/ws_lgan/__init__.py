"""Zhang, Su & Wang 2020: WS-LGAN, local features where attributes say that eyes and mouth are."""
