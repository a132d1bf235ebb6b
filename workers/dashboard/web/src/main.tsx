import { render } from "preact";
import { Shell } from "./components/Shell";
import { FeedPage } from "./pages/Feed";
import { Overview } from "./pages/Overview";
import { followLinks, loadSession, route } from "./state";
import "./styles/base.css";
import "./styles/states.css";
import "./styles/tables.css";
import "./styles/panels.css";
import "./styles/graph.css";
import "./styles/charts.css";
import "./styles/narrow.css";

function Page() {
  const shown = route.value;
  switch (shown.page) {
    case "overview":
      return <Overview />;
    case "feed":
      return (
        <FeedPage
          key={`${shown.namespace}/${shown.name}`}
          namespace={shown.namespace}
          name={shown.name}
          tab={shown.tab}
        />
      );
    default:
      return (
        <>
          <h1>There is nothing at {shown.path}</h1>
          <p>
            <a href="/">All feeds</a>
          </p>
        </>
      );
  }
}

const root = document.getElementById("app");
if (root) {
  followLinks();
  void loadSession();
  render(
    <Shell>
      <Page />
    </Shell>,
    root,
  );
}
