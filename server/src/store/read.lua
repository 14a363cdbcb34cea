-- Moves a read mark, never beyond the newest message. Needs head.lua.
-- KEYS read, meta   ARGV user id, seq, up or down: the only direction allowed   Returns the mark.
local head = numberIn(redis.call('HGET', KEYS[2], 'seq')) or 0
local mark = numberIn(redis.call('HGET', KEYS[1], ARGV[1])) or 0
local wanted = math.min(tonumber(ARGV[2]), head)
local moves = wanted > mark
if ARGV[3] == 'down' then moves = wanted < mark end
if moves then
  redis.call('HSET', KEYS[1], ARGV[1], string.format('%.0f', wanted))
  return wanted
end
return mark
