-- Adds a member to a set that may have only so many, however many ask at once.
-- KEYS set
-- ARGV member, the most
-- Returns 1 if it was added, 0 if it is there already, or -1 if the set is full
if redis.call('SISMEMBER', KEYS[1], ARGV[1]) == 1 then
  return 0
elseif redis.call('SCARD', KEYS[1]) >= tonumber(ARGV[2]) then
  return -1
end
redis.call('SADD', KEYS[1], ARGV[1])
return 1
