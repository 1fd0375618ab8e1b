//! The demo: what a newcomer sees. Steps with elapsed time, a live tree meanwhile, and at the end what it took.

use std::io::{self, Write as _};
use std::time::{Duration, Instant};

use anyhow::Result;
use tokio::time::MissedTickBehavior;

use crate::bed::Bed;
use crate::console::spoken;
use crate::life::Life;
use crate::site::{MACHINE_DEPLOYMENT, Site};
use crate::summary::{Figures, Window};
use crate::view::{World, changes, tree};

/// How long each phase took, in the order they ended.
#[derive(Default)]
pub struct Phases(pub Vec<(String, Duration)>);

/// Brings up a cluster with one control plane and two workers. On a terminal it stays until Ctrl-C; elsewhere it goes the whole
/// way, scales the cluster, deletes it, and ends.
pub async fn run(bed: &Bed) -> Result<()> {
    let mut phases = Phases::default();
    let life = Life::new(bed, "metal3");
    phases.add("management cluster", bed.console.elapsed());
    show(bed, &life.site, &mut phases, "clusterctl init: Cluster API and our two providers", bed.install()).await?;
    show(bed, &life.site, &mut phases, "five hosts registered and inspected", life.rack(0..5)).await?;
    let from = bed.audit_mark();
    show(bed, &life.site, &mut phases, "cluster demo: 1 control plane, 2 workers", async {
        life.create("demo", 1, 2).await?;
        life.running("demo", 3).await
    })
    .await?;
    life.settled("demo", 3).await?;
    let created = bed.since(from, 3)?;
    let idle = rest(bed, 3).await;
    let mut figures = bed.figures(created, None, Some(idle))?;
    built(bed, &life.site.world().await);
    tell(bed, &figures, &phases);
    bed.write_summary(&figures, &phases)?;
    if bed.console.terminal {
        bed.console.line(
            "\nLook around in a second terminal with `make demo-shell`, for example:\n\
             \x20 kubectl -n metal3 get cluster,machines,metal3machines,bmh\n\
             \x20 clusterctl describe cluster demo -n metal3\n\
             \x20 workload get nodes -o wide\n\
             \x20 kubectl -n metal3 scale machinedeployment demo --replicas 3\n\
             \x20 kubectl -n metal3 delete cluster demo\n\
             Ctrl-C here ends everything.\n",
        );
        return watch(bed, &life.site).await;
    }
    show(bed, &life.site, &mut phases, "scaled to 3 workers", async {
        life.scale(MACHINE_DEPLOYMENT, "demo", 3).await?;
        life.running("demo", 4).await
    })
    .await?;
    let from = bed.audit_mark();
    show(bed, &life.site, &mut phases, "cluster deleted, every host available again", async {
        life.delete("demo").await?;
        life.hosts_in("available", 5).await
    })
    .await?;
    figures = bed.figures(created, Some(Window { from, to: bed.audit_mark(), machines: 4 }), Some(idle))?;
    tell(bed, &figures, &phases);
    bed.write_summary(&figures, &phases)
}

impl Phases {
    pub fn add(&mut self, name: &str, took: Duration) {
        self.0.push((name.to_owned(), took));
    }
}

/// Runs a step and shows the site while it runs.
pub async fn show<T>(
    bed: &Bed,
    site: &Site,
    phases: &mut Phases,
    what: &str,
    work: impl Future<Output = Result<T>>,
) -> Result<T> {
    let start = Instant::now();
    bed.console.step(format_args!("{what} …"));
    let mut picture = Picture::default();
    let mut ticks = tokio::time::interval(Duration::from_secs(1));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    tokio::pin!(work);
    let result = loop {
        tokio::select! {
            result = &mut work => break result,
            _ = ticks.tick() => picture.update(bed, site.world().await),
        }
    };
    picture.update(bed, site.world().await);
    phases.add(what, start.elapsed());
    match &result {
        Ok(_) => bed.console.step(format_args!("{what}: done in {}", spoken(start.elapsed()))),
        Err(_) => bed.console.step(format_args!("{what}: failed after {}", spoken(start.elapsed()))),
    }
    result
}

/// A while in which nothing is asked of the cluster, to see what the managers ask meanwhile.
async fn rest(bed: &Bed, machines: usize) -> Window {
    let from = bed.audit_mark();
    bed.console.step("resting for 20 s: how much do the managers ask of a settled cluster?");
    tokio::time::sleep(Duration::from_secs(20)).await;
    Window { from, to: bed.audit_mark(), machines }
}

/// The live tree until Ctrl-C, for whoever changes things from a second terminal.
async fn watch(bed: &Bed, site: &Site) -> Result<()> {
    let mut picture = Picture::default();
    let mut ticks = tokio::time::interval(Duration::from_secs(1));
    loop {
        ticks.tick().await;
        picture.update(bed, site.world().await);
    }
}

/// The last thing shown: a block of lines that is drawn over on a terminal, and only what changed elsewhere.
#[derive(Default)]
struct Picture {
    world: World,
    lines: Vec<String>,
}

impl Picture {
    fn update(&mut self, bed: &Bed, world: World) {
        if bed.console.terminal {
            let lines = tree(&world);
            if lines != self.lines {
                let width = terminal_width();
                let mut out = io::stdout().lock();
                // Up over what stands there, then clear from here to the end of the screen.
                let up = if self.lines.is_empty() { String::new() } else { format!("\x1b[{}A", self.lines.len()) };
                let block: String =
                    lines.iter().map(|line| line.chars().take(width).collect::<String>() + "\n").collect();
                let _ = write!(out, "{up}\r\x1b[J{block}").and_then(|()| out.flush());
                self.lines = lines;
            }
        } else {
            for line in changes(&self.world, &world) {
                bed.console.step(format_args!("  {line}"));
            }
        }
        self.world = world;
    }
}

fn terminal_width() -> usize {
    rustix::termios::tcgetwinsize(io::stdout()).map_or(120, |size| usize::from(size.ws_col).max(40))
}

/// What stands there now, and of which versions.
fn built(bed: &Bed, world: &World) {
    let tools = &bed.tools;
    bed.console.line(format_args!(
        "\nWhat was built, with Cluster API {}, Kubernetes {} and etcd {}",
        tools.cluster_api, tools.kubernetes, tools.etcd
    ));
    for line in tree(world) {
        bed.console.line(format_args!("  {line}"));
    }
}

/// The end of a run: what it took.
pub fn tell(bed: &Bed, figures: &Figures, phases: &Phases) {
    bed.console.line("\nHow long it took");
    let width = phases.0.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
    for (name, took) in &phases.0 {
        bed.console.line(format_args!("  {name:<width$} {:>6.1} s", took.as_secs_f64()));
    }
    bed.console.line(figures);
}
