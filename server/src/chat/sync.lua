-- The messages after a cursor, or a reset with its reason.
-- KEYS room, meta   ARGV 1 seq, 2 date, 3 hash or '', 4 limit
-- Returns {'ok' | 'ahead' | 'rewound' | 'trimmed', head seq, head date, head hash, row, ...}, one row more than
-- the limit where there are more. After a reset the rows are the newest page.
local meta = redis.call('HMGET', KEYS[2], 'seq', 'date', 'hash', 'first')
local head, headDate, headHash = tonumber(meta[1] or '0'), meta[2] or '0', meta[3] or ''
local seq, limit = tonumber(ARGV[1]), tonumber(ARGV[4])

local function answer(status, rows)
  local reply = { status, string.format('%.0f', head), headDate, headHash }
  for _, row in ipairs(rows) do
    reply[#reply + 1] = row
  end
  return reply
end

local function reset(reason)
  local newest = redis.call('ZREVRANGE', KEYS[1], 0, 49)
  local rows = {}
  for i = #newest, 1, -1 do
    rows[#rows + 1] = newest[i]
  end
  return answer(reason, rows)
end

-- A message at the cursor's date with the cursor's seq and hash proves that the whole log up to it is the same.
local function known()
  local mark = '"seq":' .. ARGV[1] .. ',"date":' .. ARGV[2] .. ',"hash":"' .. ARGV[3]
  for _, row in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], ARGV[2], ARGV[2])) do
    if string.find(string.sub(row, 1, 120), mark, 1, true) then
      return true
    end
  end
  return false
end

if seq > 0 then
  if seq > head then
    return reset('ahead')
  end
  if meta[4] and seq < tonumber(meta[4]) - 1 then
    return reset('trimmed')
  end
  if not (seq == head and ARGV[3] == headHash) and not known() then
    return reset('rewound')
  end
end

-- Every answer holds a row with a place in the log, or is the last: otherwise no cursor would ever get past the rows
-- that another program added. Of too many of them the newest page is all that is told.
local function placed(rows)
  for i = 1, limit do
    if string.find(rows[i], '^{"roomId":"[%d:]+","seq":%d+,"date":%d+,"hash":"') then
      return true
    end
  end
  return false
end

local after = ARGV[2]
for _ = 1, 50 do
  local rows = redis.call('ZRANGEBYSCORE', KEYS[1], '(' .. after, '+inf', 'LIMIT', 0, limit + 1)
  if #rows <= limit or placed(rows) then
    return answer('ok', rows)
  end
  after = redis.call('ZSCORE', KEYS[1], rows[limit])
end
return reset('trimmed')
