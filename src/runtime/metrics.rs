//! Counters, gauges and histograms in Prometheus' text format, without a global registry.
//!
//! Two dozen series with closed label sets do not need a metrics framework: what is here is atomics in an ordered map, so that
//! the page reads the same in every process. Family names follow controller-runtime's, because dashboards ask for them.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

type Labels = Vec<(&'static str, String)>;

/// The registry; clones share it.
#[derive(Clone, Default)]
pub struct Metrics {
    families: Arc<Mutex<BTreeMap<&'static str, Family>>>,
    looks: Arc<Mutex<Vec<Look>>>,
}

type Look = Arc<dyn Fn() + Send + Sync>;

struct Family {
    help: &'static str,
    kind: &'static str,
    series: BTreeMap<Labels, Series>,
}

enum Series {
    Counter(Counter),
    Gauge(Gauge),
    Histogram(Histogram),
}

#[derive(Clone, Default)]
pub struct Counter(Arc<AtomicU64>);

#[derive(Clone, Default)]
pub struct Gauge(Arc<AtomicU64>);

#[derive(Clone)]
pub struct Histogram(Arc<Mutex<Buckets>>);

struct Buckets {
    bounds: &'static [f64],
    counts: Vec<u64>,
    sum: f64,
    total: u64,
}

impl Counter {
    pub fn inc(&self) {
        self.add(1);
    }

    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Gauge {
    pub fn set(&self, value: f64) {
        self.0.store(value.to_bits(), Ordering::Relaxed);
    }

    pub fn add(&self, delta: f64) {
        let sum = |bits| Some((f64::from_bits(bits) + delta).to_bits());
        let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, sum);
    }

    pub fn get(&self) -> f64 {
        f64::from_bits(self.0.load(Ordering::Relaxed))
    }
}

impl Histogram {
    fn new(bounds: &'static [f64]) -> Self {
        Self(Arc::new(Mutex::new(Buckets { bounds, counts: vec![0; bounds.len()], sum: 0.0, total: 0 })))
    }

    pub fn observe(&self, took: Duration) {
        let seconds = took.as_secs_f64();
        let mut buckets = self.0.lock();
        let first = buckets.bounds.partition_point(|bound| *bound < seconds);
        if let Some(count) = buckets.counts.get_mut(first) {
            *count += 1;
        }
        buckets.sum += seconds;
        buckets.total += 1;
    }

    pub fn count(&self) -> u64 {
        self.0.lock().total
    }
}

impl Metrics {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn counter(&self, name: &'static str, help: &'static str, labels: &[(&'static str, &str)]) -> Counter {
        let fresh = || Series::Counter(Counter::default());
        match self.series(name, help, "counter", labels, fresh) {
            Series::Counter(counter) => counter,
            Series::Gauge(_) | Series::Histogram(_) => Counter::default(),
        }
    }

    pub fn gauge(&self, name: &'static str, help: &'static str, labels: &[(&'static str, &str)]) -> Gauge {
        let fresh = || Series::Gauge(Gauge::default());
        match self.series(name, help, "gauge", labels, fresh) {
            Series::Gauge(gauge) => gauge,
            Series::Counter(_) | Series::Histogram(_) => Gauge::default(),
        }
    }

    /// A counter that somebody else counts, in fractions: it is set to what was read.
    pub(crate) fn reading(&self, name: &'static str, help: &'static str) -> Gauge {
        match self.series(name, help, "counter", &[], || Series::Gauge(Gauge::default())) {
            Series::Gauge(gauge) => gauge,
            Series::Counter(_) | Series::Histogram(_) => Gauge::default(),
        }
    }

    pub fn histogram(
        &self,
        name: &'static str,
        help: &'static str,
        bounds: &'static [f64],
        labels: &[(&'static str, &str)],
    ) -> Histogram {
        let fresh = || Series::Histogram(Histogram::new(bounds));
        match self.series(name, help, "histogram", labels, fresh) {
            Series::Histogram(histogram) => histogram,
            Series::Counter(_) | Series::Gauge(_) => Histogram::new(bounds),
        }
    }

    /// The series of that name and these labels, made on first use. A name keeps the type it was first used with.
    fn series(
        &self,
        name: &'static str,
        help: &'static str,
        kind: &'static str,
        labels: &[(&'static str, &str)],
        fresh: impl FnOnce() -> Series,
    ) -> Series {
        let labels = labels.iter().map(|(k, v)| (*k, (*v).to_owned())).collect();
        let mut families = self.families.lock();
        let family = families.entry(name).or_insert_with(|| Family { help, kind, series: BTreeMap::new() });
        if family.kind != kind {
            tracing::error!(name, "metric used with two types");
            return fresh();
        }
        match family.series.entry(labels).or_insert_with(fresh) {
            Series::Counter(counter) => Series::Counter(counter.clone()),
            Series::Gauge(gauge) => Series::Gauge(gauge.clone()),
            Series::Histogram(histogram) => Series::Histogram(histogram.clone()),
        }
    }

    /// Calls `look` before every page: for what is read when asked and not counted as it happens.
    pub(crate) fn before_page(&self, look: impl Fn() + Send + Sync + 'static) {
        self.looks.lock().push(Arc::new(look));
    }

    /// The page a scraper reads.
    pub fn render(&self) -> String {
        let looks = self.looks.lock().clone();
        for look in looks {
            look();
        }
        let mut page = String::new();
        for (name, family) in self.families.lock().iter() {
            let _ = writeln!(page, "# HELP {name} {}\n# TYPE {name} {}", family.help, family.kind);
            for (labels, series) in &family.series {
                match series {
                    Series::Counter(counter) => line(&mut page, name, "", labels, None, counter.get()),
                    Series::Gauge(gauge) => line(&mut page, name, "", labels, None, gauge.get()),
                    Series::Histogram(histogram) => {
                        let buckets = histogram.0.lock();
                        let mut up_to = 0;
                        for (bound, count) in buckets.bounds.iter().zip(&buckets.counts) {
                            up_to += count;
                            line(&mut page, name, "_bucket", labels, Some(&bound.to_string()), up_to);
                        }
                        line(&mut page, name, "_bucket", labels, Some("+Inf"), buckets.total);
                        line(&mut page, name, "_sum", labels, None, buckets.sum);
                        line(&mut page, name, "_count", labels, None, buckets.total);
                    }
                }
            }
        }
        page
    }
}

fn line(
    page: &mut String,
    name: &str,
    suffix: &str,
    labels: &Labels,
    bound: Option<&str>,
    value: impl std::fmt::Display,
) {
    let escape = |v: &str| v.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    let pairs = labels.iter().map(|(k, v)| (*k, v.as_str())).chain(bound.map(|b| ("le", b)));
    let pairs: Vec<_> = pairs.map(|(k, v)| format!("{k}=\"{}\"", escape(v))).collect();
    let pairs = if pairs.is_empty() { String::new() } else { format!("{{{}}}", pairs.join(",")) };
    let _ = writeln!(page, "{name}{suffix}{pairs} {value}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_is_what_prometheus_reads() {
        let metrics = Metrics::new();
        metrics.counter("b_total", "Bees.", &[("hive", "a\"b")]).add(2);
        metrics.gauge("a", "Ants.", &[]).set(0.5);
        let seconds = metrics.histogram("c_seconds", "Cats.", &[0.1, 1.0], &[]);
        seconds.observe(Duration::from_millis(100));
        seconds.observe(Duration::from_millis(500));
        seconds.observe(Duration::from_secs(2));
        let expected = "# HELP a Ants.\n# TYPE a gauge\na 0.5\n\
            # HELP b_total Bees.\n# TYPE b_total counter\nb_total{hive=\"a\\\"b\"} 2\n\
            # HELP c_seconds Cats.\n# TYPE c_seconds histogram\n\
            c_seconds_bucket{le=\"0.1\"} 1\nc_seconds_bucket{le=\"1\"} 2\nc_seconds_bucket{le=\"+Inf\"} 3\n\
            c_seconds_sum 2.6\nc_seconds_count 3\n";
        assert_eq!(metrics.render(), expected);
    }

    #[test]
    fn the_same_labels_are_the_same_series() {
        let metrics = Metrics::new();
        metrics.counter("x", "X.", &[("a", "1")]).inc();
        assert_eq!(metrics.counter("x", "X.", &[("a", "1")]).get(), 1);
        assert_eq!(metrics.counter("x", "X.", &[("a", "2")]).get(), 0);
    }
}
