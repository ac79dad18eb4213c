"""No paper, but what people do today: start from a network that knows faces. It stands beside Tables V and VI of Li & Deng 2019."""
