import type { Credentials } from "../server/src/protocol.ts";
import { isRecord, parseJson } from "../server/src/store/json.ts";

/** The demo people and what they said. Every password is `password123`. */
export const DEMO_PASSWORD = "password123";

/** The log-ins of the demo people, by what is stored in `seed:people`: none, if that is no list of them. */
export function demoPeople(stored: string | null | undefined): Credentials[] {
  const value = parseJson(stored ?? "");
  return Array.isArray(value)
    ? value.flatMap((one) => {
        const { username, password } = isRecord(one) ? one : {};
        return typeof username === "string" && typeof password === "string" ? [{ username, password }] : [];
      })
    : [];
}

export const DEMO_PEOPLE = ["Pablo", "Joe", "Mary", "Alex", "Ines", "Kofi"] as const;
type DemoPerson = (typeof DEMO_PEOPLE)[number];

/** What happened to a message later. */
export type DemoChange = {
  /** The beginning of the earlier message in the room that this one answers. */
  answers?: string;
  reactions?: readonly (readonly [emoji: string, by: readonly DemoPerson[]])[];
  edited?: true;
  pinned?: true;
};

/** [minutes before now, who, text, what happened to it later] */
export type DemoLine = readonly [minutesAgo: number, from: DemoPerson, text: string, change?: DemoChange];

const DAY = 24 * 60;
/** The first of it was said within so many days. */
export const DEMO_DAYS = 4;

export const DEMO_GENERAL: readonly DemoLine[] = [
  [3 * DAY + 95, "Mary", "Good morning everyone! Welcome to our own chat 👋"],
  [3 * DAY + 94, "Mary", "Everything here runs on our own machine. Nothing leaves it."],
  [3 * DAY + 90, "Joe", "Nice. Where did the old messages go?"],
  [3 * DAY + 88, "Mary", "They stay where they are until Friday. After that this is the only place."],
  [3 * DAY + 61, "Alex", "Two windows open, one on my phone: both get the same messages in the same order."],
  [3 * DAY + 60, "Alex", 'And I sent "ok" five times in one second. All five are there.'],
  [3 * DAY + 58, "Kofi", "ok"],
  [3 * DAY + 58, "Kofi", "ok"],
  [3 * DAY + 57, "Pablo", "We believe you, Kofi 😄"],
  [
    2 * DAY + 480,
    "Ines",
    "I made a room for the release. Join it from “Browse rooms” if you want to follow along.",
  ],
  [2 * DAY + 470, "Joe", "Joined."],
  [2 * DAY + 465, "Pablo", "Me too. What is the plan for Thursday?"],
  [
    2 * DAY + 462,
    "Ines",
    "Thursday: freeze at noon, **rolling deploy at three**, cake at four.",
    { edited: true, pinned: true },
  ],
  [
    2 * DAY + 461,
    "Ines",
    "Nobody should notice the deploy. Everybody should notice the cake.",
    {
      reactions: [
        ["🎂", ["Pablo", "Joe", "Mary"]],
        ["👀", ["Kofi"]],
      ],
    },
  ],
  [2 * DAY + 400, "Kofi", 'Can a message contain code? `if (a < b && c > d) return "&lt;";`'],
  [2 * DAY + 398, "Mary", "What you type is what everyone reads, character by character."],
  [DAY + 540, "Alex", "Morning. The train is late again, I am on my phone until ten."],
  [DAY + 537, "Pablo", "No hurry, stand-up is moved to 10:15."],
  [
    DAY + 380,
    "Joe",
    "Notes from yesterday's talk:\n\n1. Store first, then announce, and do both in one step.\n2. Everybody hears a room in the order in which it was stored.\n3. A retry must be harmless, or nobody dares to retry.\n\nThe rest is detail.",
  ],
  [DAY + 371, "Ines", "Number three should be on a poster."],
  [
    DAY + 200,
    "Kofi",
    "https://redis.io/docs/latest/develop/data-types/sorted-sets/ is a good read before Thursday",
  ],
  [DAY + 130, "Mary", "Lunch tomorrow: who is in? The place with the terrace, 12:30."],
  [DAY + 128, "Alex", "In!", { answers: "Lunch tomorrow" }],
  [
    DAY + 127,
    "Pablo",
    "In, if somebody orders for me. I come straight from the dentist.",
    { answers: "Lunch tomorrow" },
  ],
  [DAY + 120, "Joe", "I order for @Pablo. Soup it is.", { answers: "In, if somebody orders" }],
  [190, "Ines", "Release notes are in the Releases room. Please read the part about migrations."],
  [188, "Kofi", "Read. One typo in the second paragraph, otherwise 👍", { answers: "Release notes are" }],
  [185, "Ines", "Fixed, thanks", { answers: "Read. One typo", reactions: [["👍", ["Kofi", "Joe"]]] }],
  [64, "Pablo", "I can still feel the dentist, but I am here."],
  [63, "Mary", "Poor you. There is soup."],
  [31, "Joe", "Which reminds me: the terrace is booked for six."],
  [
    20,
    "Kofi",
    "For the export script: this reads the newest page of a room.\n\n```ts\n// oldest first, without a hole\nconst { messages } = await log.page(roomId, { size: 50 });\n```",
    {
      pinned: true,
      reactions: [
        ["👍", ["Joe", "Mary", "Ines"]],
        ["👀", ["Alex"]],
      ],
    },
  ],
  [12, "Alex", "Is the second replica up already?"],
  [11, "Joe", "Since this morning. You are on it, I think.", { answers: "Is the second replica" }],
  [10, "Alex", "I did not notice a thing.", { reactions: [["🎉", ["Joe", "Ines", "Kofi"]]] }],
  [7, "Ines", "@room: freeze at **noon**, as planned. Nothing is merged after that.", { pinned: true }],
  [5, "Pablo", "@Mary, is the soup safe from the freeze?", { reactions: [["😄", ["Joe"]]] }],
  [4, "Mary", "It is. See you all at 12:30 ☀️", { answers: "@Mary, is the soup" }],
];

export const DEMO_ROOMS: readonly {
  name: string;
  members: readonly DemoPerson[];
  lines: readonly DemoLine[];
}[] = [
  {
    name: "Releases",
    members: ["Ines", "Joe", "Pablo", "Kofi", "Mary"],
    lines: [
      [2 * DAY + 485, "Ines", "This room is for everything about Thursday's release."],
      [2 * DAY + 466, "Pablo", "Who watches the dashboards?"],
      [2 * DAY + 464, "Kofi", "I do. If a room has a gap, I will see it before you do."],
      [
        DAY + 300,
        "Ines",
        "Checklist:\n- freeze at 12:00\n- backup of the append-only file\n- one replica after the other\n- cake",
      ],
      [DAY + 295, "Joe", "Backup is a copy of one folder. I tried the restore as well: four minutes."],
      [DAY + 290, "Ines", "You are a hero."],
      [
        192,
        "Ines",
        "Release notes:\n\nPrivate rooms appear by themselves with the first message. Drafts are kept for each room. Ctrl+K jumps anywhere.",
      ],
      [186, "Kofi", "There is a typo: “recieve”."],
      [185, "Ines", "Gone."],
      [45, "Mary", "Can I tell the customers today?"],
      [41, "Ines", "After three. I will give you a sign here."],
    ],
  },
  {
    name: "Design",
    members: ["Mary", "Alex", "Ines"],
    lines: [
      [2 * DAY + 200, "Alex", "First draft of the empty states is done."],
      [2 * DAY + 198, "Mary", "I like that they say what to do next."],
      [2 * DAY + 190, "Ines", "Could the dark theme be a bit less blue?"],
      [DAY + 90, "Alex", "Less blue: done. It is a warm grey now."],
      [DAY + 85, "Ines", "Much calmer. Ship it."],
      [70, "Mary", "One thing: at 360 pixels the buttons are hard to hit."],
      [66, "Alex", "44 pixels each since five minutes ago 🙂"],
    ],
  },
  {
    name: "Lunch",
    members: ["Mary", "Alex", "Pablo", "Joe", "Kofi"],
    lines: [
      [DAY + 132, "Mary", "Poll by hand: soup or salad?"],
      [DAY + 131, "Joe", "Soup"],
      [DAY + 131, "Kofi", "Soup"],
      [DAY + 130, "Alex", "Salad. With soup."],
      [33, "Joe", "Table for six, on the terrace, name of Mary."],
    ],
  },
];

export const DEMO_PRIVATE: readonly {
  between: readonly [DemoPerson, DemoPerson];
  lines: readonly DemoLine[];
}[] = [
  {
    between: ["Pablo", "Mary"],
    lines: [
      [DAY + 126, "Pablo", "Could you order the tomato soup? Joe always takes the one with coriander."],
      [DAY + 124, "Mary", "Tomato it is. Our secret."],
      [62, "Mary", "How is the tooth?"],
      [60, "Pablo", "Better. I can speak again, the others will regret it."],
    ],
  },
  {
    between: ["Pablo", "Joe"],
    lines: [
      [300, "Joe", "Do you have ten minutes for the restore script?"],
      [296, "Pablo", "At two?"],
      [295, "Joe", "Perfect"],
    ],
  },
  {
    between: ["Alex", "Pablo"],
    lines: [[25, "Alex", "I pushed the new avatars. Tell me if yours is too green."]],
  },
  {
    between: ["Mary", "Joe"],
    lines: [
      [80, "Mary", "Thanks for the booking!"],
      [78, "Joe", "Any time."],
    ],
  },
];
