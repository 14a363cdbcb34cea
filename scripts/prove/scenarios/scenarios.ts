import type { Scenario } from "../stage.ts";
import { files } from "./files.ts";
import { clientLinks, slowClient } from "./links.ts";
import { moderation } from "./moderation.ts";
import { leaving, logoutStorm, races } from "./people.ts";
import {
  aofTruncated,
  blackholedSubscriber,
  clusterPrimary,
  lostReplies,
  pubsubKills,
  redisEmptied,
  redisKilled,
  redisRefuses,
  sentinel,
  sentinelWait,
} from "./redis.ts";
import { clockSkew, killedReplica, rollingDeploy, stoppedReplica, thunderingHerd } from "./replicas.ts";

/** Every scenario, in the order of the table. */
export const SCENARIOS: readonly Scenario[] = [
  killedReplica,
  stoppedReplica,
  rollingDeploy,
  lostReplies,
  redisKilled,
  pubsubKills,
  blackholedSubscriber,
  redisRefuses,
  redisEmptied,
  aofTruncated,
  sentinel,
  sentinelWait,
  clusterPrimary,
  clientLinks,
  slowClient,
  clockSkew,
  thunderingHerd,
  logoutStorm,
  leaving,
  moderation,
  files,
  races,
];
