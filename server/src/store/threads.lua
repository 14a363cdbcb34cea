-- How many answers threads have that are not deleted, and the newest of these; where all of the last ten are deleted,
-- the newest of all.
-- KEYS room, deleted, and each thread (one slot)   ARGV how many steps may be spent on leaving deleted ones out
-- Returns for each thread its count and a row, or '' where there is none.
local LOOKED_BACK = 9
local left = tonumber(ARGV[1])
local gone = redis.call('ZCARD', KEYS[2])
local answer = {}
for at = 3, #KEYS do
  local count = redis.call('ZCARD', KEYS[at])
  local steps = math.min(count, gone)
  if steps > 0 and steps <= left then
    left = left - steps
    count = count - redis.call('ZINTERCARD', 2, KEYS[at], KEYS[2])
  end
  local row = ''
  if count > 0 then
    local newest = redis.call('ZRANGE', KEYS[at], 0, LOOKED_BACK, 'REV', 'WITHSCORES')
    local date = newest[2]
    for index = 1, #newest, 2 do
      if not redis.call('ZSCORE', KEYS[2], newest[index]) then
        date = newest[index + 1]
        break
      end
    end
    row = redis.call('ZRANGE', KEYS[1], date, date, 'BYSCORE')[1] or ''
  end
  answer[#answer + 1] = count
  answer[#answer + 1] = row
end
return answer
