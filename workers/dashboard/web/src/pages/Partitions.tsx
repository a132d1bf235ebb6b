import type { Detail, Exit } from "../api/types";
import { Age, Empty, Meter, Panel, Shares, Stale, Table, Tag, Time } from "../components/bits";
import { bytes, duration, number, rate, UNKNOWN } from "../lib/format";

/** A queue that holds so few messages is no deep one. */
const SHALLOW = 100;

export default function Partitions({ feed }: { feed: Detail }) {
  const deepest = Math.max(SHALLOW, ...feed.partitions.map((partition) => partition.queue?.ready ?? 0));
  return (
    <>
      <Panel title="Partitions" aside={<Generations feed={feed} />}>
        <Stale freshness={feed.observation} />
        {feed.partitions.length === 0 && <Empty>The feed has no queues yet.</Empty>}
        {feed.partitions.length > 0 && (
          <Table label="Partitions: queue depth, watermark, rates and time">
            <thead>
              <tr>
                <th scope="col">Partition</th>
                <th scope="col" class="number">
                  Queued
                </th>
                <th scope="col" class="number">
                  Watermark lag
                </th>
                <th scope="col" class="number">
                  Ticks/s
                </th>
                <th scope="col" class="number">
                  Traffic
                </th>
                <th scope="col">Time</th>
                <th scope="col">Processor</th>
                <th scope="col" class="number">
                  Checkpoint
                </th>
                <th scope="col" class="number">
                  Late
                </th>
                <th scope="col" class="number">
                  Quarantined
                </th>
                <th scope="col" class="number">
                  Gaps
                </th>
              </tr>
            </thead>
            <tbody>
              {feed.partitions.map((partition) => (
                <tr key={partition.id} data-partition={partition.id}>
                  <th scope="row">
                    {partition.id}{" "}
                    {partition.waitingForMissing && <Tag look="warning">waits for a missing message</Tag>}
                  </th>
                  <td class="number" data-field="queued" data-value={partition.queue?.ready ?? ""}>
                    {partition.queue ? (
                      <>
                        <Meter
                          ratio={partition.queue.ready / deepest}
                          label={`${number(partition.queue.ready)} messages wait`}
                        />{" "}
                        {number(partition.queue.ready)}
                        {partition.queue.consumers === 0 && <Tag look="error">no consumer</Tag>}
                      </>
                    ) : (
                      UNKNOWN
                    )}
                  </td>
                  <td class="number">
                    {duration(
                      partition.watermarkLagSeconds === null ? null : Math.round(partition.watermarkLagSeconds),
                    )}
                  </td>
                  <td class="number">{rate(partition.rates?.ticksPerSecond)}</td>
                  <td class="number">{partition.rates ? `${bytes(partition.rates.bytesPerSecond)}/s` : UNKNOWN}</td>
                  <td>
                    <Shares time={partition.time} />
                  </td>
                  <td>{partition.processor ?? <Tag look="warning">nobody who answers</Tag>}</td>
                  <td class="number" data-field="checkpoint" data-value={partition.checkpoint ?? ""}>
                    {number(partition.checkpoint)}
                  </td>
                  <td class="number">{number(partition.totals?.late)}</td>
                  <td class="number">{number(partition.totals?.quarantined)}</td>
                  <td class="number">{number(partition.totals?.gaps)}</td>
                </tr>
              ))}
            </tbody>
          </Table>
        )}
      </Panel>
      <Panel title="Processors">
        {feed.processors.length === 0 && <Empty>No processor's pod is there.</Empty>}
        {feed.processors.length > 0 && (
          <Table label="Processors">
            <thead>
              <tr>
                <th scope="col">Pod</th>
                <th scope="col">State</th>
                <th scope="col">Time</th>
                <th scope="col" class="number">
                  Ticks/s
                </th>
                <th scope="col">Partitions</th>
                <th scope="col" class="number">
                  Restarts
                </th>
                <th scope="col">Last exit</th>
                <th scope="col">Node</th>
                <th scope="col">Started</th>
              </tr>
            </thead>
            <tbody>
              {feed.processors.map((processor) => (
                <tr key={processor.pod}>
                  <th scope="row">{processor.pod}</th>
                  <td>
                    {processor.ready ? (
                      <Tag look="ok">✓ ready</Tag>
                    ) : (
                      <Tag look="error">✕ {processor.phase}, not ready</Tag>
                    )}
                    {!processor.answers && <Tag look="warning">does not answer</Tag>}
                    {processor.brokerConnected === false && <Tag look="error">no broker</Tag>}
                    {processor.databaseOk === false && <Tag look="error">no database</Tag>}
                  </td>
                  <td>
                    <Shares time={processor.time} />
                  </td>
                  <td class="number">{rate(processor.rates?.ticksPerSecond)}</td>
                  <td>{processor.partitions.join(", ") || UNKNOWN}</td>
                  <td class="number">{number(processor.restarts)}</td>
                  <td>
                    <LastExit exit={processor.lastExit} />
                  </td>
                  <td>{processor.node ?? UNKNOWN}</td>
                  <td>
                    <Time at={processor.startedAt} />
                  </td>
                </tr>
              ))}
            </tbody>
          </Table>
        )}
      </Panel>
      <Panel title="Producer">
        <ProducerPairs feed={feed} />
      </Panel>
    </>
  );
}

function Generations({ feed }: { feed: Detail }) {
  if (feed.queues.length < 2) return null;
  return (
    <Tag look="busy">
      ↻ moving from {feed.queues[0]?.partitions} to {feed.queues.at(-1)?.partitions} partitions
    </Tag>
  );
}

function LastExit({ exit }: { exit: Exit | null | undefined }) {
  if (!exit) return <>{UNKNOWN}</>;
  return (
    <>
      <b>{exit.reason ?? "ended"}</b> (exit code {exit.exitCode}) <Age at={exit.at} />
      {exit.message && <div class="text muted">{exit.message}</div>}
    </>
  );
}

function ProducerPairs({ feed }: { feed: Detail }) {
  const producer = feed.producer;
  if (!producer) return <Empty>No producer's pod is there{feed.suspended ? ": the feed is suspended" : ""}.</Empty>;
  const { broker, source, spool, rates, requestSeconds } = producer;
  return (
    <dl class="pairs">
      <dt>Pod</dt>
      <dd>
        {producer.pod} {producer.ready ? <Tag look="ok">✓ ready</Tag> : <Tag look="error">✕ not ready</Tag>}
      </dd>
      <dt>Started</dt>
      <dd>
        <Time at={producer.startedAt} />, {number(producer.restarts)} restarts
      </dd>
      {producer.lastExit && (
        <>
          <dt>Last exit</dt>
          <dd>
            <LastExit exit={producer.lastExit} />
          </dd>
        </>
      )}
      <dt>Broker</dt>
      <dd class={broker?.connected === false ? "level-error" : ""}>
        {broker
          ? `${broker.connected ? "connected" : "not connected"}${broker.message ? `: ${broker.message}` : ""}, ${number(broker.heldMessages)} held`
          : UNKNOWN}
      </dd>
      <dt>Source</dt>
      <dd class={source?.problem ? "level-error" : ""}>
        {source ? (
          <>
            {source.problem ?? "answers"}; last attempt <Age at={source.lastAttempt} />, last success{" "}
            <Age at={source.lastSuccess} />
            {source.pausedUntil && (
              <>
                , paused until <Time at={source.pausedUntil} />
              </>
            )}
          </>
        ) : (
          UNKNOWN
        )}
      </dd>
      <dt>Requests</dt>
      <dd>
        {rate(rates?.requestsPerSecond)} a second, p50 {duration(requestSeconds?.p50)}, p95{" "}
        {duration(requestSeconds?.p95)}
      </dd>
      <dt>Publishes</dt>
      <dd>
        {rate(rates?.messagesPerSecond)} messages/s, {rate(rates?.ticksPerSecond)} ticks/s
      </dd>
      <dt>Spool</dt>
      <dd class={spool?.full ? "level-error" : ""}>
        {spool ? `${number(spool.messages)} messages, ${bytes(spool.bytes)} of ${bytes(spool.maxBytes)}` : UNKNOWN}
      </dd>
    </dl>
  );
}
