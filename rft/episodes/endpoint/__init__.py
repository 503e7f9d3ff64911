"""The policy of an episode as an OpenAI-compatible endpoint, for agents that know nothing of rft.

`server` listens on loopback, `app` is the HTTP side, `session` one episode. `asked` reads a request, `history` compares
it with what the episode has recorded, `cutting` applies its limits to the sampled turn, and `answers` writes the reply.
"""
