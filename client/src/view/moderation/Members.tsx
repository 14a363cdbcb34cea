import { isNamed, ROOM_ROLES, type Ban, type Member } from "@hubbub/server/protocol";
import { useCallback, useState } from "react";
import { moderation } from "../../chat/moderation.ts";
import { nameOf } from "../../chat/state/people.ts";
import { FoundNothing } from "../finding/Found.tsx";
import { useFound } from "../finding/useFound.ts";
import { showUntil, useHasCome } from "../time.ts";
import { Avatar } from "../ui/Avatar.tsx";
import { Tag } from "../ui/Badge.tsx";
import { Button } from "../ui/Button.tsx";
import { Confirm } from "../ui/Confirm.tsx";
import { Fault } from "../ui/Fault.tsx";
import { Missing } from "../ui/Missing.tsx";
import { useNotice } from "../ui/Notices.tsx";
import { PersonName } from "../ui/PersonName.tsx";
import { SearchField } from "../ui/SearchField.tsx";
import { ShowMore } from "../ui/ShowMore.tsx";
import { useClient, useMe } from "../useChat.ts";
import { look } from "../ui/Rows.tsx";
import { useAnswer, useCalls } from "../useCalls.ts";
import type { DetailedRoom } from "./detailedRoom.ts";
import { readPages } from "./pages.ts";

const MUTES = [
  { long: "10 minutes", ms: 600_000 },
  { long: "1 hour", ms: 3_600_000 },
  { long: "1 day", ms: 86_400_000 },
];

/** The people of a room, and for moderators what they can do about them. */
export function Members({ room }: { room: DetailedRoom }) {
  const chat = useClient();
  const { id: roomId, kind } = room;
  const [pages, setPages] = useState(1);
  const ask = useCallback(
    () => readPages<Member>(pages, (last) => moderation(chat.call()).members(roomId, last?.id)),
    [chat, roomId, pages],
  );
  const read = useAnswer(ask);
  const { answer, again } = read;
  const [adding, setAdding] = useState(false);
  const moderates = room.standing.role !== "member";
  const named = isNamed(kind);
  return (
    <>
      <Missing of={read} label="Loading members" />
      {moderates && named && (
        <Button icon="plus" aria-expanded={adding} onClick={() => setAdding(!adding)}>
          Add a person
        </Button>
      )}
      {adding && <AddPerson room={room} members={answer?.found ?? []} onDone={again} />}
      <ul aria-label="Members">
        {answer?.found.map((member) => (
          <MemberRow key={member.id} room={room} member={member} onDone={again} />
        ))}
      </ul>
      <ShowMore
        more={answer?.more === true}
        count={answer?.found.length ?? 0}
        onMore={() => setPages(pages + 1)}
      />
      {moderates && named && answer !== null && <Bans room={room} known={answer} />}
    </>
  );
}

type RowProps = { room: DetailedRoom; member: Member; onDone: () => Promise<void> };

function MemberRow({ room, member, onDone }: RowProps) {
  const me = useMe();
  const [open, setOpen] = useState(false);
  const { role } = room.standing;
  const isMe = member.id === me.id;
  const name = nameOf(member);
  const below = role === "owner" || ROOM_ROLES.indexOf(role) > ROOM_ROLES.indexOf(member.role);
  const manageable = role !== "member" && below && !isMe && member.deleted === undefined;
  const isOver = useHasCome(member.mutedUntil ?? 0);
  const muted = isOver ? undefined : member.mutedUntil;
  const about = [
    ...(member.role === "member" ? [] : [member.role === "owner" ? "Owner" : "Moderator"]),
    ...(muted === undefined ? [] : [`Muted until ${showUntil(muted)}`]),
  ];
  return (
    <li className={look.row}>
      <Avatar userId={member.id} name={name} />
      <span className={look.what}>
        <span>
          <PersonName user={member} /> {isMe && <Tag>you</Tag>}
        </span>
        {about.length > 0 && <small>{about.join(" · ")}</small>}
      </span>
      {manageable && (
        <Button aria-expanded={open} aria-label={`Manage ${name}`} onClick={() => setOpen(!open)}>
          Manage
        </Button>
      )}
      {manageable && open && (
        <Manage room={room} member={member} muted={muted !== undefined} name={name} onDone={onDone} />
      )}
    </li>
  );
}

type ManageProps = RowProps & { muted: boolean; name: string };

function Manage({ room, member, muted, name, onDone }: ManageProps) {
  const chat = useClient();
  const tell = useNotice();
  const { busy, fault, run } = useCalls();
  const [asked, setAsked] = useState<"remove" | "ban" | null>(null);
  const { id: roomId, kind } = room;
  const named = isNamed(kind);
  const act = (call: () => Promise<unknown>, words: string) =>
    run(async () => {
      await call();
      await onDone();
      tell(words);
    });
  const api = () => moderation(chat.call());

  if (asked === "ban")
    return (
      <Confirm
        text={`Ban ${name}? They leave the room and cannot come back until you lift the ban.`}
        yes="Ban them"
        busy={busy}
        fault={fault}
        onYes={() => act(() => api().ban(roomId, member.id), `${name} is banned.`)}
        onCancel={() => setAsked(null)}
      />
    );
  if (asked === "remove")
    return (
      <Confirm
        text={`Remove ${name} from the room? They can come back if they may join it.`}
        yes="Remove them"
        busy={busy}
        fault={fault}
        onYes={() => act(() => api().removeMember(roomId, member.id), `${name} is not in the room any more.`)}
        onCancel={() => setAsked(null)}
      />
    );
  return (
    <fieldset className={look.choices} aria-label={`What to do about ${name}`}>
      {named &&
        room.standing.role === "owner" &&
        ROOM_ROLES.filter((role) => role !== member.role).map((role) => (
          <Button
            key={role}
            disabled={busy}
            onClick={() =>
              act(() => api().changeMember(roomId, member.id, { role }), `${name} is ${role} now.`)
            }
          >
            Make {role}
          </Button>
        ))}
      {muted ? (
        <Button
          disabled={busy}
          onClick={() =>
            act(
              () => api().changeMember(roomId, member.id, { mutedUntil: 0 }),
              `${name} is not muted any more.`,
            )
          }
        >
          Unmute
        </Button>
      ) : (
        MUTES.map(({ long, ms }) => (
          <Button
            key={ms}
            disabled={busy}
            onClick={() =>
              act(
                () => api().changeMember(roomId, member.id, { mutedUntil: Date.now() + ms }),
                `${name} is muted for ${long}.`,
              )
            }
          >
            Mute for {long}
          </Button>
        ))
      )}
      {named && (
        <Button disabled={busy} onClick={() => setAsked("remove")}>
          Remove…
        </Button>
      )}
      {named && (
        <Button look="danger" disabled={busy} onClick={() => setAsked("ban")}>
          Ban…
        </Button>
      )}
      {fault !== null && <Fault>{fault}</Fault>}
    </fieldset>
  );
}

type AddProps = { room: DetailedRoom; members: readonly Member[]; onDone: () => Promise<void> };

function AddPerson({ room, members, onDone }: AddProps) {
  const chat = useClient();
  const tell = useNotice();
  const { busy, fault: addFault, run } = useCalls();
  const [wanted, setWanted] = useState("");
  const text = wanted.trim();
  const found = useFound(chat.findUsers, text === "" ? null : text);
  const { answer, current, busy: looking, more } = found;
  const fault = addFault ?? found.fault;
  const all = answer.found.length >= answer.total;
  const others = answer.found.filter(({ id }) => !members.some((member) => member.id === id));
  return (
    <>
      <SearchField label="Find a person to add" busy={looking} value={wanted} onText={setWanted} />
      {fault !== null && <Fault>{fault}</Fault>}
      <ul aria-label="People to add">
        {text !== "" &&
          others.map((user) => (
            <li key={user.id} className={look.row}>
              <Avatar userId={user.id} name={nameOf(user)} />
              <span className={look.what}>
                <PersonName user={user} />
              </span>
              <Button
                disabled={busy}
                aria-label={`Add ${nameOf(user)}`}
                onClick={() =>
                  run(async () => {
                    await moderation(chat.call()).changeMember(room.id, user.id, {});
                    await onDone();
                    tell(`${nameOf(user)} is in the room now.`);
                  })
                }
              >
                Add
              </Button>
            </li>
          ))}
      </ul>
      <FoundNothing>
        {text !== "" && current && all && others.length === 0 ? "Nobody else by that name." : ""}
      </FoundNothing>
      <ShowMore more={text !== "" && current && !all} count={others.length} busy={looking} onMore={more} />
    </>
  );
}

/** Who may not come back. Asked for again whenever the members were. */
function Bans({ room: { id: roomId }, known }: { room: DetailedRoom; known: unknown }) {
  const chat = useClient();
  const tell = useNotice();
  // oxlint-disable-next-line react-hooks/exhaustive-deps -- a ban changes the members, and they change the bans
  const ask = useCallback((): Promise<Ban[]> => moderation(chat.call()).bans(roomId), [chat, roomId, known]);
  const read = useAnswer(ask);
  const { answer, again } = read;
  const { busy, fault, run } = useCalls();
  if (answer === null || answer.length === 0) return <Missing of={read} />;
  return (
    <>
      <h3>Banned</h3>
      <Missing of={read} />
      {fault !== null && <Fault>{fault}</Fault>}
      <ul aria-label="Banned people">
        {answer.map((ban) => (
          <li key={ban.id} className={look.row}>
            <span className={look.what}>
              <PersonName user={ban} />
              {ban.until !== undefined && <small>Until {showUntil(ban.until)}</small>}
            </span>
            <Button
              disabled={busy}
              aria-label={`Lift the ban of ${nameOf(ban)}`}
              onClick={() =>
                run(async () => {
                  await moderation(chat.call()).liftBan(roomId, ban.id);
                  await again();
                  tell(`The ban of ${nameOf(ban)} is lifted.`);
                })
              }
            >
              Lift the ban
            </Button>
          </li>
        ))}
      </ul>
    </>
  );
}
