import type { UserId } from "@hubbub/server/protocol";

const TONES = 8;

type Props = { userId: UserId; name: string; online?: boolean | undefined; large?: boolean };

/** A person's colour and initials. With `online` given, a dot tells whether they are there. */
export function Avatar({ userId, name, online, large }: Props) {
  const tone = Number(userId) % TONES;
  return (
    <span className={`avatar tone-${tone} ${large ? "avatar-large" : ""}`} aria-hidden="true">
      {initials(name)}
      {online !== undefined && <span className={online ? "dot dot-online" : "dot"} />}
    </span>
  );
}

function initials(name: string): string {
  const parts = name.split(/[._-]+/).filter(Boolean);
  const letters = parts.length > 1 ? `${parts[0]?.[0] ?? ""}${parts[1]?.[0] ?? ""}` : name.slice(0, 2);
  return letters.toUpperCase();
}
