"""A store that refuses what comes under a lower fencing token than it has seen."""

from typing import Any

import redis.asyncio as redis_asyncio

WRITE = """
local highest = tonumber(redis.call('HGET', KEYS[1], 'highest') or '0')
local fence = tonumber(ARGV[1])
if fence < highest then
  redis.call('HINCRBY', KEYS[1], 'refused', 1)
  return 0
end
if fence > highest then
  redis.call('HINCRBY', KEYS[1], 'terms', 1)
elseif redis.call('HGET', KEYS[1], 'writer') ~= ARGV[2] then
  redis.call('HINCRBY', KEYS[1], 'shared', 1)
end
redis.call('HSET', KEYS[1], 'highest', ARGV[1], 'writer', ARGV[2])
return 1
"""
"""Takes a fencing token and who writes; counts terms, refusals, and terms of two writers."""


def store_of(namespace: str) -> str:
    """Return the key of the store."""
    return f"{namespace}store"


async def counts(redis: redis_asyncio.Redis, namespace: str) -> dict[str, int]:
    """Return what the store has counted."""
    found: Any = await redis.hgetall(store_of(namespace))
    return {key.decode(): int(value) for key, value in found.items()}
