import { LIMITS, type ServerSettings as Settings, type SignUpMode } from "@hubbub/server/protocol";
import { useCallback, useState, type FormEvent } from "react";
import { admin } from "../../chat/admin.ts";
import { Button } from "../ui/Button.tsx";
import { Choices } from "../ui/Choices.tsx";
import { DialogActions } from "../ui/Dialog.tsx";
import { Fault } from "../ui/Fault.tsx";
import { Missing } from "../ui/Missing.tsx";
import { Field } from "../ui/Field.tsx";
import { useNotice } from "../ui/Notices.tsx";
import { useAnswer, useCalls } from "../useCalls.ts";
import { useEdited } from "../useEdited.ts";
import { useClient } from "../useChat.ts";

const MODES: readonly { value: SignUpMode; words: string; note: string }[] = [
  { value: "open", words: "Anybody", note: "Whoever reaches this server." },
  {
    value: "invite",
    words: "People with an invite link",
    note: "Moderators make such links in their rooms' details.",
  },
  {
    value: "closed",
    words: "Closed",
    note: "An invite link still works, but nobody is told that there are any.",
  },
];

/** What admins set for the whole server. */
export function ServerSettings() {
  const chat = useClient();
  const ask = useCallback(() => admin(chat.call()).settings(), [chat]);
  const read = useAnswer(ask);
  const { answer, again } = read;
  return (
    <>
      <Missing of={read} label="Loading settings" />
      {answer !== null && <Form before={answer} onSaved={again} />}
    </>
  );
}

function Form({ before, onSaved }: { before: Settings; onSaved: () => Promise<void> }) {
  const chat = useClient();
  const tell = useNotice();
  const { busy, fault, run } = useCalls();
  // The words that the text began with go with it: what else the server gets meanwhile was not removed in it.
  const { fields, edited, edit, settle } = useEdited({
    signup: before.signup,
    list: { text: before.words.join("\n"), began: before.words },
  });
  const { signup, list } = fields;
  const [wrong, setWrong] = useState<string>();

  function save(event: FormEvent) {
    event.preventDefault();
    const words = wordsIn(list.text);
    const refused = whyNot(words);
    setWrong(refused);
    if (refused !== undefined) return;
    const added = words.filter((word) => !list.began.includes(word));
    const removed = list.began.filter((word) => !words.includes(word));
    run(async () => {
      const calls = admin(chat.call());
      // Another admin may have changed the list since it was shown.
      const present = new Set((await calls.settings()).words);
      for (const word of removed) present.delete(word);
      for (const word of added) present.add(word);
      const patch: Partial<Settings> = {
        ...(signup !== before.signup && { signup }),
        ...(added.length + removed.length > 0 && { words: [...present] }),
      };
      if (Object.keys(patch).length > 0) await calls.changeSettings(patch);
      await onSaved();
      settle(edited);
      tell("The settings are saved.");
    });
  }

  return (
    <form onSubmit={save} noValidate>
      <Choices
        legend="Who can sign up"
        value={signup}
        choices={MODES}
        onChoose={(given) => edit({ signup: given })}
      />
      <Field
        label="Filtered words, one on each line"
        lines={6}
        spellCheck={false}
        value={list.text}
        fault={wrong}
        hint="No message can have one of them, however it is spelt: case, accents and letters that look alike do not matter."
        onText={(given) => {
          edit({ list: { ...list, text: given } });
          setWrong(undefined);
        }}
      />
      {fault !== null && <Fault>{fault}</Fault>}
      <DialogActions>
        <Button type="submit" look="main" busy={busy}>
          Save
        </Button>
      </DialogActions>
    </form>
  );
}

function wordsIn(text: string): string[] {
  const lines = text.split("\n").map((line) => line.trim());
  return [...new Set(lines.filter((line) => line !== ""))];
}

function whyNot(words: readonly string[]): string | undefined {
  const long = words.find((word) => word.length > LIMITS.word);
  const empty = words.find((word) => !/[\p{L}\p{N}]/u.test(word));
  if (words.length > LIMITS.words) return `At most ${LIMITS.words.toLocaleString()} words.`;
  if (long !== undefined) return `“${long.slice(0, 20)}…” is longer than ${LIMITS.word} characters.`;
  if (empty !== undefined) return `“${empty}” has neither letters nor digits.`;
  return undefined;
}
