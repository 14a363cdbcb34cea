import { LIMITS, type ServerRole } from "@hubbub/server/protocol";
import { useState, type FormEvent } from "react";
import { account } from "../../chat/account.ts";
import { ChatError } from "../../chat/api.ts";
import { nameOf } from "../../chat/state/people.ts";
import { Avatar } from "../ui/Avatar.tsx";
import { Button } from "../ui/Button.tsx";
import { DialogActions } from "../ui/Dialog.tsx";
import { Fault } from "../ui/Fault.tsx";
import { Field } from "../ui/Field.tsx";
import { useNotice } from "../ui/Notices.tsx";
import { useCalls } from "../useCalls.ts";
import { useEdited } from "../useEdited.ts";
import { useClient, useMe } from "../useChat.ts";
import css from "./OwnName.module.css";
import { OwnPicture } from "./OwnPicture.tsx";

const ROLES: Record<ServerRole, string | null> = {
  user: null,
  admin: "You are an admin of this server.",
  owner: "You own this server.",
};

/** What others call this user. */
export function OwnName() {
  const chat = useClient();
  const me = useMe();
  const tell = useNotice();
  const { busy, fault, run } = useCalls();
  const { fields, edited, edit, settle } = useEdited({ name: me.displayName ?? "" });
  const [refused, setRefused] = useState<string>();
  const role = ROLES[me.role ?? "user"];

  function onSubmit(event: FormEvent) {
    event.preventDefault();
    const wanted = edited.name?.trim();
    run(async () => {
      if (wanted === undefined) {
        tell(`You are shown as ${nameOf(me)}.`);
        return;
      }
      const renamed = await account(chat.call())
        .rename({ displayName: wanted === "" ? null : wanted })
        .catch((error: unknown) => {
          if (!(error instanceof ChatError && (error.code === "taken" || error.code === "invalid")))
            throw error;
          setRefused(error.message);
          return null;
        });
      if (renamed === null) return;
      chat.showMe(renamed);
      settle(edited);
      tell(`You are shown as ${nameOf(renamed)}.`);
    });
  }

  return (
    <form onSubmit={onSubmit} noValidate>
      <div className={css.me}>
        <Avatar userId={me.id} name={nameOf(me)} large />
        <div>
          <p className={css.name}>{nameOf(me)}</p>
          <p>@{me.username}</p>
          {role !== null && <p>{role}</p>}
          <OwnPicture />
        </div>
      </div>
      <Field
        label="Display name"
        value={fields.name}
        fault={refused}
        hint={`Shown in place of ${me.username}. Empty: your username is shown. Others still mention you as @${me.username}.`}
        maxLength={LIMITS.displayName}
        placeholder={me.username}
        autoComplete="name"
        onText={(text) => {
          edit({ name: text });
          setRefused(undefined);
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
