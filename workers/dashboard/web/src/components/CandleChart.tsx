import {
  CandlestickSeries,
  type Time as ChartTime,
  ColorType,
  createChart,
  createSeriesMarkers,
  HistogramSeries,
  type IChartApi,
  type ISeriesApi,
  type ISeriesMarkersPluginApi,
  type UTCTimestamp,
} from "lightweight-charts";
import { useEffect, useRef } from "preact/hooks";
import type { Candle } from "../api/types";
import { decimals, direction } from "../lib/candles";
import { clock, fullTime } from "../lib/format";
import { isDark, zone } from "../state";

interface Props {
  candles: Candle[];
  label: string;
  /** Another one begins a new view; the same one keeps what the reader has scrolled to. */
  view: string;
  onPoint: (candle: Candle | null) => void;
}

interface Made {
  chart: IChartApi;
  prices: ISeriesApi<"Candlestick">;
  volumes: ISeriesApi<"Histogram">;
  marks: ISeriesMarkersPluginApi<ChartTime>;
}

const seconds = (iso: string) => (Date.parse(iso) / 1_000) as UTCTimestamp;

function colors() {
  const style = getComputedStyle(document.documentElement);
  const of = (name: string) => style.getPropertyValue(name).trim();
  return {
    text: of("--muted"),
    line: of("--line"),
    up: of("--up"),
    down: of("--down"),
    flat: of("--muted"),
    revised: of("--revised"),
    open: of("--open"),
  };
}

export function CandleChart({ candles, label, view, onPoint }: Props) {
  const holder = useRef<HTMLDivElement>(null);
  const made = useRef<Made | null>(null);
  const shown = useRef({ candles, view: "", onPoint });
  shown.current.candles = candles;
  shown.current.onPoint = onPoint;
  const dark = isDark.value;
  const shownZone = zone.value;

  // biome-ignore lint/correctness/useExhaustiveDependencies: colours and zone are read when the chart is made
  useEffect(() => {
    const element = holder.current;
    if (!element) return;
    const { text, line, up, down } = colors();
    const chart = createChart(element, {
      autoSize: true,
      layout: {
        background: { type: ColorType.Solid, color: "transparent" },
        textColor: text,
        fontFamily: "system-ui, sans-serif",
        // It would add a style element, which the Content-Security-Policy forbids; the page names its maker below the chart.
        attributionLogo: false,
      },
      grid: { vertLines: { color: line }, horzLines: { color: line } },
      rightPriceScale: { borderColor: line },
      timeScale: {
        borderColor: line,
        timeVisible: true,
        secondsVisible: false,
        tickMarkFormatter: (time: ChartTime, kind: number) => {
          const iso = new Date(Number(time) * 1_000).toISOString();
          // Years, months and days have kinds below 3.
          return kind < 3 ? fullTime(iso, shownZone).slice(5, 10) : clock(new Date(iso), shownZone).slice(0, 5);
        },
      },
      localization: {
        timeFormatter: (time: ChartTime) =>
          fullTime(new Date(Number(time) * 1_000).toISOString(), shownZone).replace(/\.\d+/, ""),
      },
    });
    const prices = chart.addSeries(CandlestickSeries, {
      upColor: up,
      downColor: down,
      wickUpColor: up,
      wickDownColor: down,
      borderUpColor: up,
      borderDownColor: down,
    });
    const volumes = chart.addSeries(HistogramSeries, {
      priceFormat: { type: "volume" },
      priceScaleId: "volume",
      lastValueVisible: false,
      priceLineVisible: false,
    });
    chart.priceScale("volume").applyOptions({ scaleMargins: { top: 0.82, bottom: 0 } });
    prices.priceScale().applyOptions({ scaleMargins: { top: 0.08, bottom: 0.24 } });
    chart.subscribeCrosshairMove((event) => {
      const at = event.time === undefined ? undefined : Number(event.time);
      shown.current.onPoint(
        at === undefined ? null : (shown.current.candles.find((candle) => seconds(candle.start) === at) ?? null),
      );
    });
    made.current = { chart, prices, volumes, marks: createSeriesMarkers(prices, []) };
    shown.current.view = "";
    return () => {
      made.current = null;
      chart.remove();
    };
  }, [dark, shownZone]);

  // biome-ignore lint/correctness/useExhaustiveDependencies: a chart that is made anew is filled anew
  useEffect(() => {
    if (!made.current) return;
    const { chart, prices, volumes, marks } = made.current;
    const { up, down, flat, revised, open } = colors();
    const colorOf = { up, down, flat };
    const precision = decimals(candles);
    prices.applyOptions({ priceFormat: { type: "price", precision, minMove: 10 ** -precision } });
    prices.setData(
      candles.map((candle) => {
        const base = {
          time: seconds(candle.start),
          open: Number(candle.open),
          high: Number(candle.high),
          low: Number(candle.low),
          close: Number(candle.close),
        };
        // What may still change is drawn hollow.
        return candle.final ? base : { ...base, color: "transparent", borderColor: open, wickColor: open };
      }),
    );
    volumes.setData(
      candles.map((candle) => ({
        time: seconds(candle.start),
        value: candle.volume ?? 0,
        color: `${colorOf[direction(candle)]}55`,
      })),
    );
    marks.setMarkers(
      candles
        .filter((candle) => candle.revision > 0)
        .map((candle) => ({
          time: seconds(candle.start),
          position: "aboveBar" as const,
          shape: "arrowDown" as const,
          color: revised,
          text: `late ${candle.revision}`,
        })),
    );
    if (shown.current.view !== view && candles.length > 0) {
      shown.current.view = view;
      const most = Math.max(30, Math.floor((holder.current?.clientWidth ?? 800) / 9));
      chart.timeScale().setVisibleLogicalRange({ from: candles.length - most, to: candles.length + 2 });
    }
  }, [candles, view, dark, shownZone]);

  return <div class="candle-chart" ref={holder} role="img" aria-label={label} />;
}
