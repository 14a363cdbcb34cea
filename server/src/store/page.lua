-- The first rows between two dates, read a few at a time, so that long ones are not read far beyond the limit.
-- KEYS room   ARGV 1 'newest' or 'oldest' (which rows come first), 2 and 3 the dates in that order, as bounds of scores,
--             4 rows to pass over, 5 most rows, 6 bytes after which no row is added
-- Returns 1 if there are more, else 0, and the rows.
local SLICE = 16
local passed, most, size = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
local reply, bytes = { 0 }, 0

local function read(count)
  local command = ARGV[1] == 'newest' and 'ZREVRANGEBYSCORE' or 'ZRANGEBYSCORE'
  return redis.call(command, KEYS[1], ARGV[2], ARGV[3], 'LIMIT', passed + #reply - 1, count)
end

repeat
  local wanted = math.min(SLICE, most + 1 - #reply)
  local slice = read(wanted)
  for _, row in ipairs(slice) do
    if bytes <= size then
      reply[#reply + 1] = row
      bytes = bytes + #row
    end
  end
until #slice < wanted or #reply > most or bytes > size
reply[1] = #read(1)
return reply
