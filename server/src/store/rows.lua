-- What scripts need to know of a room's rows. Goes before them; KEYS[1] is the room.

-- The number of a message, or nil for a row that is none.
local function numberOf(row)
  return tonumber(string.match(row, '^{"roomId":"[%d:]+","seq":(%d+),"date":%d+,"hash":"'))
end

-- The rows that begin like the message with this number: only one of them is a message. Numbers rise with the place in
-- the log; another program may have removed rows, or added some that are no messages. `first`: the first number.
local function rowsOf(seq, first)
  local low, high = 0, redis.call('ZCARD', KEYS[1]) - 1
  -- So many rows that are no messages are passed over in one look, a few at a time.
  local most, several = 5000, 200
  -- Where nothing is removed or added, the first look finds it. A few more follow the difference, the others halve the rest.
  local place = seq - first
  local looks = 0
  while low <= high do
    place = math.max(low, math.min(high, place))
    local at, size, number = place, 1, nil
    repeat
      for _, row in ipairs(redis.call('ZRANGE', KEYS[1], at, at + size - 1)) do
        if not number then
          number = numberOf(row)
          at = at + 1
        end
      end
      size = several
    until number or at > high or at > place + most
    if number == seq then
      local rows = {}
      for _, row in ipairs(redis.call('ZRANGE', KEYS[1], math.max(0, at - 2), at)) do
        if numberOf(row) == seq then
          rows[#rows + 1] = row
        end
      end
      return rows
    elseif number and number < seq then
      low = at
    else
      high = place - 1
    end
    looks = looks + 1
    if number and looks < 4 then
      place = at - 1 + seq - number
    else
      place = math.floor((low + high) / 2)
    end
  end
  return {}
end
