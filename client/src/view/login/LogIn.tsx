import { LIMITS, USERNAME, USERNAME_WORDS, type Credentials, type Invitation } from "@hubbub/server/protocol";
import { useEffect, useRef, useState, type FormEvent } from "react";
import { ChatError, isPassing, waitAfter, wordsOf } from "../../chat/api.ts";
import { nameOf } from "../../chat/state/people.ts";
import { loadLater } from "../later.ts";
import { Avatar } from "../ui/Avatar.tsx";
import { Button } from "../ui/Button.tsx";
import { Fault } from "../ui/Fault.tsx";
import { Field } from "../ui/Field.tsx";
import { Icon } from "../ui/Icon.tsx";
import { PasswordField } from "../ui/PasswordField.tsx";
import { Wordmark } from "../ui/Wordmark.tsx";
import { useClient } from "../useChat.ts";
import { Chatter } from "./Chatter.tsx";
import css from "./LogIn.module.css";

type Faults = { username?: string; password?: string; form?: string };

/** `invite`: the code of an invite link. */
type Props = { invite: string | null; reason: string | null; lastName: string | null };

/** Log-in and sign-up; demo people, if there are any, are one click away. */
export function LogIn({ invite, reason, lastName }: Props) {
  const chat = useClient();
  const [invitation, setInvitation] = useState<Invitation | "invalid" | null>(null);
  const [isNew, setIsNew] = useState(invite !== null);
  const [username, setUsername] = useState(lastName ?? "");
  const [password, setPassword] = useState("");
  const [faults, setFaults] = useState<Faults>({});
  const [busy, setBusy] = useState(false);
  const [people, setPeople] = useState<Credentials[]>([]);
  const form = useRef<HTMLFormElement>(null);

  useEffect(() => {
    document.title = "Log in - Hubbub";
    chat.demo().then(
      (demo) => setPeople(demo.people),
      () => {},
    );
  }, [chat]);

  useEffect(() => {
    if (invite === null) return undefined;
    let again: ReturnType<typeof setTimeout> | undefined;
    let over = false;
    async function ask(code: string) {
      try {
        const invited = await chat.invitation(code);
        if (!over) setInvitation(invited);
      } catch (error) {
        if (over) return;
        if (isPassing(error)) again = setTimeout(() => void ask(code), waitAfter(error));
        else setInvitation("invalid");
      }
    }
    void ask(invite);
    return () => {
      over = true;
      clearTimeout(again);
    };
  }, [chat, invite]);

  // A user who begins to type will need the rest of the client.
  useEffect(() => form.current?.addEventListener("focusin", loadLater, { once: true }), []);

  // When a session ended, the element with the focus disappeared.
  useEffect(() => {
    if (reason === null) return;
    form.current
      ?.querySelector<HTMLInputElement>(lastName === null ? "[name=username]" : "[name=password]")
      ?.focus();
  }, [reason, lastName]);

  useEffect(() => {
    const blamed = faults.username ? "username" : faults.password ? "password" : null;
    if (blamed !== null) form.current?.querySelector<HTMLInputElement>(`[name=${blamed}]`)?.focus();
  }, [faults]);

  async function enter(credentials: Credentials, signUp: boolean) {
    if (busy) return;
    setBusy(true);
    setFaults({});
    try {
      await (signUp
        ? chat.signUp(credentials.username, credentials.password, invite ?? undefined)
        : chat.logIn(credentials.username, credentials.password));
    } catch (error) {
      setBusy(false);
      setFaults(faultsOf(error, signUp));
    }
  }

  function onSubmit(event: FormEvent) {
    event.preventDefault();
    const name = username.trim();
    const found = isNew ? check(name, password) : checkGiven(name, password);
    setFaults(found);
    if (found.username ?? found.password) return;
    void enter({ username: name, password }, isNew);
  }

  function choose(signUp: boolean) {
    setIsNew(signUp);
    setFaults({});
    form.current?.querySelector("input")?.focus();
  }

  return (
    <main className={css.page}>
      <section className={css.brand}>
        <div className={css.name}>
          <Wordmark />
        </div>
        <p className={css.claim}>Your team&rsquo;s rooms, on&nbsp;your own server.</p>
        <Chatter />
      </section>
      <section className={css.panel}>
        <h1 tabIndex={-1}>{isNew ? "Create your account" : "Welcome back"}</h1>
        <p className={css.lead}>
          {isNew
            ? "Pick a name. You will be in General a second later."
            : "Log in to go on where you left off."}
        </p>
        {invitation !== null && (
          <p className={css.invitation} aria-live="polite">
            {invitation === "invalid" ? (
              "This invite link is not valid, or not any more."
            ) : (
              <>
                <strong>{nameOf(invitation.by)}</strong> invites you to <strong>{invitation.name}</strong>.
              </>
            )}
          </p>
        )}
        {reason !== null && (
          <p className={css.reason} role="alert">
            <Icon name="lock" /> {reason}
          </p>
        )}
        <form ref={form} onSubmit={onSubmit} noValidate>
          <Field
            label="Username"
            name="username"
            value={username}
            fault={faults.username}
            hint={isNew ? USERNAME_WORDS : undefined}
            autoComplete="username"
            autoCapitalize="none"
            spellCheck={false}
            onText={setUsername}
          />
          <PasswordField
            label="Password"
            name="password"
            value={password}
            fault={faults.password}
            hint={isNew ? `At least ${LIMITS.passwordMin} characters` : undefined}
            autoComplete={isNew ? "new-password" : "current-password"}
            onText={setPassword}
          />
          {faults.form && <Fault>{faults.form}</Fault>}
          <div className={css.enter}>
            <Button type="submit" look="main" wide busy={busy}>
              {isNew ? "Create account" : "Log in"}
            </Button>
          </div>
        </form>
        <p className={css.switch}>
          {isNew ? "You have an account?" : "New here?"}{" "}
          <Button look="link" onClick={() => choose(!isNew)}>
            {isNew ? "Log in" : "Create an account"}
          </Button>
        </p>
        {people.length > 0 && (
          <section className={css.demo} aria-labelledby="demo-title">
            <h2 id="demo-title">Or look around as one of the demo people</h2>
            <ul>
              {people.map((person, index) => (
                <li key={person.username}>
                  <button
                    type="button"
                    className={css.person}
                    aria-disabled={busy || undefined}
                    onClick={() => void enter(person, false)}
                  >
                    <Avatar userId={String(index + 1)} name={person.username} />
                    {person.username}
                  </button>
                </li>
              ))}
            </ul>
          </section>
        )}
      </section>
    </main>
  );
}

function checkGiven(username: string, password: string): Faults {
  return {
    ...(username === "" && { username: "Enter your username." }),
    ...(password === "" && { password: "Enter your password." }),
  };
}

function check(username: string, password: string): Faults {
  const composed = password.normalize("NFC");
  const bytes = new TextEncoder().encode(composed).length;
  return {
    ...(!USERNAME.test(username) && {
      username: `${USERNAME_WORDS}.`,
    }),
    ...(composed.length < LIMITS.passwordMin && { password: `At least ${LIMITS.passwordMin} characters.` }),
    ...(bytes > LIMITS.passwordBytes && { password: "This password is too long." }),
  };
}

function faultsOf(error: unknown, signUp: boolean): Faults {
  if (error instanceof ChatError && error.code === "taken")
    return { username: "This name is taken. Try another one." };
  if (error instanceof ChatError && error.code === "unauthorized" && !signUp)
    return { form: "That username and password do not belong together." };
  // Invalid names were refused here, so the server's refusal is about the password.
  if (error instanceof ChatError && error.code === "invalid")
    return signUp
      ? { password: wordsOf(error) }
      : { form: "That username and password do not belong together." };
  return { form: wordsOf(error) };
}
