"""A simulated Redis: keys, scripts in Redis's Lua, what is said on a connection, a life."""
