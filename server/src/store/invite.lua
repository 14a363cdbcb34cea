-- Uses an invite for a user; a repeat counts no second time until they are in.
-- KEYS invite
-- ARGV user id, 'use', 'settle' once they are in, or 'give back' after a use that came to nothing
-- Returns 1, 2 for a repeat, or 0 if there is no such invite, it has expired or is used up
if redis.call('EXISTS', KEYS[1]) == 0 then
  return 0
end
local user = 'u:' .. ARGV[1]
local used = redis.call('HEXISTS', KEYS[1], user) == 1
if ARGV[2] == 'settle' then
  redis.call('HDEL', KEYS[1], user)
  return 1
elseif ARGV[2] == 'give back' then
  if used then
    redis.call('HDEL', KEYS[1], user)
    redis.call('HINCRBY', KEYS[1], 'used', -1)
  end
  return 1
end
local invite = redis.call('HMGET', KEYS[1], 'expires', 'uses', 'used')
local time = redis.call('TIME')
if (tonumber(invite[1] or '') or 0) <= time[1] * 1000 + time[2] / 1000 then
  return 0
elseif used then
  return 2
elseif invite[2] and (tonumber(invite[3] or '') or 0) >= (tonumber(invite[2]) or 0) then
  return 0
end
redis.call('HSET', KEYS[1], user, '1')
redis.call('HINCRBY', KEYS[1], 'used', 1)
return 1
