-- Takes a look from the number that had it, if it still has it and nobody has ended or renewed the doubt.
-- KEYS looks
-- ARGV 1 look, 2 number that takes it, '' for none, 3 number that had it, 4 field of the doubt, 5 the doubt
-- Returns 1 if it was taken
if redis.call('HGET', KEYS[1], ARGV[4]) ~= ARGV[5] then
  return 0
end
redis.call('HDEL', KEYS[1], ARGV[4])
if redis.call('HGET', KEYS[1], ARGV[1]) ~= ARGV[3] then
  return 0
end
if ARGV[2] == '' then
  redis.call('HDEL', KEYS[1], ARGV[1])
else
  redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
end
return 1
