-- What scripts need to know of a room's head and settings, whatever somebody has put there. Goes before them.

-- A number of at most 15 digits, or nil for anything else.
local function numberIn(text)
  return text and #text < 16 and string.match(text, '^%d+$') and tonumber(text) or nil
end

-- seq, date and hash of a head; the hash is '' if a part of it is lost or damaged: then it is found again in the log, and
-- if there is none the dates rise on.
local function headIn(seq, date, hash)
  local isWhole = seq and date and hash and #seq < 16 and #date < 16
  -- One pattern for all three: every message pays for it.
  if isWhole and string.match(seq .. ' ' .. date .. ' ' .. hash, '^%d+ %d+ %x+$') then
    return tonumber(seq), tonumber(date), hash
  end
  return numberIn(seq) or 0, numberIn(date) or 0, ''
end

-- The last change and its running hash, or 0 and ''.
local function revisionIn(rev, hash)
  return numberIn(rev) or 0, hash and string.match(hash, '^%x+$') or ''
end
