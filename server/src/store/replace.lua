-- Replaces a value, if it is still there.
-- KEYS value
-- ARGV 1 the value that is to be there, 2 the new one
-- Returns 1 if it was replaced
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return 0
end
redis.call('SET', KEYS[1], ARGV[2])
return 1
