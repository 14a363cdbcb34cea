-- Takes a look from the number that had it, if it still has it.
-- KEYS looks
-- ARGV 1 look, 2 number that takes it, 3 number that had it
-- Returns 1 if it was taken
if redis.call('HGET', KEYS[1], ARGV[1]) ~= ARGV[3] then
  return 0
end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
return 1
