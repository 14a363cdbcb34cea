-- Replaces a value, if it is still there.
-- KEYS value
-- ARGV 1 the value that is to be there, 2 the new one, or '' for none
-- Returns 1 if it was replaced
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return 0
end
if ARGV[2] == '' then
  redis.call('DEL', KEYS[1])
else
  redis.call('SET', KEYS[1], ARGV[2])
end
return 1
