import { SERVER_ROLES, type Account, type ServerRole, type UserId } from "@hubbub/server/protocol";
import { useCallback, useMemo, useState } from "react";
import { admin } from "../../chat/admin.ts";
import { nameOf } from "../../chat/state/people.ts";
import { FoundCount, FoundNothing } from "../finding/Found.tsx";
import { useFound } from "../finding/useFound.ts";
import { showFull, showWhen } from "../time.ts";
import { Avatar } from "../ui/Avatar.tsx";
import { Tag } from "../ui/Badge.tsx";
import { Button } from "../ui/Button.tsx";
import { Confirm } from "../ui/Confirm.tsx";
import { Fault } from "../ui/Fault.tsx";
import { Missing } from "../ui/Missing.tsx";
import { useNotice } from "../ui/Notices.tsx";
import { PersonName } from "../ui/PersonName.tsx";
import { look } from "../ui/Rows.tsx";
import { SearchField } from "../ui/SearchField.tsx";
import { ShowMore } from "../ui/ShowMore.tsx";
import { useCopy } from "../ui/useCopy.ts";
import { useAnswer, useCalls } from "../useCalls.ts";
import { useClient, useMe } from "../useChat.ts";

/** Everybody's account, and what this admin can do about those below them. */
export function Accounts() {
  const chat = useClient();
  const [wanted, setWanted] = useState("");
  const text = wanted.trim();
  const find = useMemo(() => admin(chat.call()).findAccounts, [chat]);
  const { answer, current, busy, fault, more } = useFound(find, text);
  /** What was changed here since; null: deleted. */
  const [changed, setChanged] = useState<ReadonlyMap<UserId, Account | null>>(new Map());
  const note = (id: UserId, account: Account | null) =>
    setChanged((before) => new Map([...before, [id, account]]));
  return (
    <>
      <SearchField label="Find a person" busy={busy} value={wanted} onText={setWanted} />
      <FoundCount
        total={current && answer.total > 0 ? answer.total : null}
        all={null}
        what={["person", "people"]}
      />
      {fault !== null && <Fault>{fault}</Fault>}
      <ul aria-label="People">
        {answer.found.map((found) => {
          const account = changed.get(found.id) ?? found;
          return (
            <Row key={found.id} account={account} deleted={changed.get(found.id) === null} onChange={note} />
          );
        })}
      </ul>
      <FoundNothing>{current && answer.total === 0 ? "Nobody by that name." : ""}</FoundNothing>
      <ShowMore
        more={current && answer.found.length < answer.total}
        count={answer.found.length}
        busy={busy}
        onMore={more}
      />
    </>
  );
}

type ChangeProps = { account: Account; onChange: (id: UserId, account: Account | null) => void };

function Row({ account, deleted, onChange }: ChangeProps & { deleted: boolean }) {
  const me = useMe();
  const [open, setOpen] = useState(false);
  const name = nameOf(account);
  const isMe = account.id === me.id;
  const { role, online, created, disabled, demo } = account;
  const below = me.role === "owner" || role === "user";
  return (
    <li className={look.row}>
      <Avatar userId={account.id} name={name} online={deleted ? false : online} />
      <span className={look.what}>
        <span>
          <PersonName user={account} /> {isMe && <Tag>you</Tag>} {role !== "user" && <Tag>{role}</Tag>}{" "}
          {demo && <Tag>demo</Tag>} {disabled !== undefined && !deleted && <Tag>disabled</Tag>}
        </span>
        <small>
          {deleted ? "The account is deleted." : online ? "Online" : "Offline"}
          {!deleted && <span title={showFull(created)}> · Here since {showWhen(created)}</span>}
        </small>
      </span>
      {below && !isMe && !deleted && (
        <Button aria-expanded={open} aria-label={`Manage ${name}`} onClick={() => setOpen(!open)}>
          Manage
        </Button>
      )}
      {open && !deleted && <Manage account={account} onChange={onChange} />}
    </li>
  );
}

const ROLE_WORDS: Record<ServerRole, string> = {
  user: "Make them an ordinary user",
  admin: "Make them admin",
  owner: "Make them owner",
};

function Manage({ account, onChange }: ChangeProps) {
  const chat = useClient();
  const me = useMe();
  const tell = useNotice();
  const copy = useCopy();
  const { busy, fault, run } = useCalls();
  const [asked, setAsked] = useState<"disable" | "delete" | null>(null);
  const [link, setLink] = useState<string | null>(null);
  const { id, role, disabled } = account;
  const name = nameOf(account);
  const api = useCallback(() => admin(chat.call()), [chat]);
  const change = (patch: Parameters<ReturnType<typeof admin>["change"]>[1], words: string) =>
    run(async () => {
      onChange(id, await api().change(id, patch));
      setAsked(null);
      tell(words);
    });

  if (asked === "delete")
    return (
      <Confirm
        text={`Delete the account of ${name}? They are logged out at once and cannot come back. Their messages stay, as those of a deleted user.`}
        yes="Delete account"
        busy={busy}
        fault={fault}
        onYes={() =>
          run(async () => {
            await api().remove(id);
            tell(`The account of ${name} is deleted.`);
            onChange(id, null);
          })
        }
        onCancel={() => setAsked(null)}
      />
    );
  if (asked === "disable")
    return (
      <Confirm
        text={`Disable the account of ${name}? They are logged out at once, and can do nothing until you enable it again.`}
        yes="Disable account"
        busy={busy}
        fault={fault}
        onYes={() => change({ disabled: true }, `${name} is disabled.`)}
        onCancel={() => setAsked(null)}
      />
    );
  return (
    <fieldset className={look.choices} aria-label={`What to do about ${name}`}>
      <SessionCount account={account} />
      {me.role === "owner" &&
        disabled === undefined &&
        SERVER_ROLES.filter((one) => one !== role).map((one) => (
          <Button key={one} disabled={busy} onClick={() => change({ role: one }, `${name} is ${one} now.`)}>
            {ROLE_WORDS[one]}
          </Button>
        ))}
      <Button
        disabled={busy}
        onClick={() =>
          run(async () => {
            await api().endSessions(id);
            onChange(id, { ...account, online: false });
            tell(`The sessions of ${name} have ended.`);
          })
        }
      >
        End sessions
      </Button>
      <Button
        disabled={busy}
        onClick={() =>
          run(async () => {
            setLink((await api().newReset(id)).url);
            tell("The link is made. It is shown once, here.");
          })
        }
      >
        Link for a new password
      </Button>
      {disabled === undefined ? (
        <Button disabled={busy} onClick={() => setAsked("disable")}>
          Disable…
        </Button>
      ) : (
        <Button disabled={busy} onClick={() => change({ disabled: false }, `${name} is enabled again.`)}>
          Enable
        </Button>
      )}
      <Button look="danger" disabled={busy} onClick={() => setAsked("delete")}>
        Delete…
      </Button>
      {link !== null && (
        <div className={look.row}>
          <span className={look.what}>
            {link}
            <small>
              Give it to {name} in person: whoever has it chooses their password, once, within a day.
            </small>
          </span>
          <Button icon="copy" onClick={() => void copy(link)}>
            Copy link
          </Button>
        </div>
      )}
      {fault !== null && <Fault>{fault}</Fault>}
    </fieldset>
  );
}

function SessionCount({ account }: { account: Account }) {
  const chat = useClient();
  // oxlint-disable-next-line react-hooks/exhaustive-deps -- a change of the account may have ended them
  const ask = useCallback(() => admin(chat.call()).show(account.id), [chat, account]);
  const read = useAnswer(ask);
  const { answer } = read;
  if (answer?.sessions === undefined) return <Missing of={read} />;
  const { sessions } = answer;
  return (
    <p className={look.note}>
      {sessions === 0 ? "Logged in nowhere." : sessions === 1 ? "1 session." : `${sessions} sessions.`}
    </p>
  );
}
