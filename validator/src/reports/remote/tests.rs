use std::os::unix::fs::PermissionsExt;
use std::thread;

use super::*;
use crate::test_support::feed_server::{FeedServer, Mode};
use crate::time::SystemClock;

struct Scene {
    server: FeedServer,
    folder: tempfile::TempDir,
    kids: watch::Sender<Vec<String>>,
    activity: Arc<Activity>,
}

impl Scene {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("broker.json"), FeedServer::credentials()).unwrap();
        std::fs::set_permissions(folder.path().join("broker.json"), PermissionsExt::from_mode(0o600))
            .unwrap();
        let kids = watch::Sender::new(vec!["a".to_owned()]);
        let activity = Arc::new(Activity::new(SystemClock.now()));
        Self { server: FeedServer::start(Duration::from_secs(1)), folder, kids, activity }
    }

    fn reporter(&self, every: Duration) -> Reporter {
        let config = ReporterConfig {
            endpoint: Endpoint {
                url: self.server.reports_url().parse().unwrap(),
                ca_file: None,
                allow_insecure_http: false,
            },
            credentials_file: self.folder.path().join("broker.json"),
            state_dir: self.folder.path().into(),
            software: "fleetbadge-test/1".into(),
            every,
            change_delay: Duration::from_millis(10),
        };
        let activity = Arc::clone(&self.activity);
        Reporter::start(config, self.kids.subscribe(), None, activity, Arc::new(SystemClock)).unwrap()
    }

    fn wait_for(&self, count: usize) -> Vec<ReportDocument> {
        for _ in 0..1000 {
            let reports = self.server.reports();
            if reports.len() >= count {
                return reports.into_iter().map(|json| serde_json::from_value(json).unwrap()).collect();
            }
            thread::sleep(Duration::from_millis(5));
        }
        panic!("no {count} reports within 5 s");
    }
}

const SELDOM: Duration = Duration::from_secs(60);

#[test]
fn a_change_is_reported_soon_and_the_instance_stays() {
    let scene = Scene::new();
    let reporter = scene.reporter(SELDOM);
    let first = scene.wait_for(1).remove(0);
    assert_eq!(
        (first.version, &*first.report.software, &*first.report.kids),
        (1, "fleetbadge-test/1", &["a".into()][..])
    );
    assert_eq!((first.instance.as_str().len(), first.report.revocations), (INSTANCE_LENGTH, None));
    scene.kids.send_replace(vec!["a".into(), "b".into()]);
    assert_eq!(scene.wait_for(2)[1].report.kids, ["a", "b"]);
    drop(reporter);

    let _reporter = scene.reporter(SELDOM);
    assert_eq!(scene.wait_for(3)[2].instance, first.instance);
    let mode = std::fs::metadata(scene.folder.path().join("instance")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_ne!(Scene::new().reporter_instance(), first.instance);
}

impl Scene {
    fn reporter_instance(&self) -> InstanceId {
        let _reporter = self.reporter(SELDOM);
        self.wait_for(1).remove(0).instance
    }
}

#[test]
fn it_reports_again_and_again_also_when_there_will_be_no_change() {
    let Scene { server, folder, kids, activity } = Scene::new();
    let scene = Scene { server, folder, kids: kids.clone(), activity };
    let _reporter = scene.reporter(Duration::from_millis(20));
    drop(kids);
    scene.wait_for(4);
}

#[test]
fn failures_are_told_once_and_so_is_their_end() {
    let scene = Scene::new();
    scene.server.set_mode(Mode::Unauthorized);
    let reporter = scene.reporter(Duration::from_millis(20));
    let told = || {
        for _ in 0..1000 {
            let notices = reporter.take_notices();
            if !notices.is_empty() {
                return notices;
            }
            thread::sleep(Duration::from_millis(5));
        }
        panic!("nothing is told within 5 s");
    };
    let notices = told();
    assert!(matches!(&*notices, [Notice::Warning(text)] if text.contains("401")), "{notices:?}");
    thread::sleep(Duration::from_millis(300));
    assert_eq!(reporter.take_notices(), []);
    scene.server.set_mode(Mode::Serving);
    let notices = told();
    assert!(matches!(&*notices, [Notice::Info(text)] if text.contains("again")), "{notices:?}");
}

#[test]
fn an_instance_that_is_none_is_made_anew() {
    let scene = Scene::new();
    let made = scene.reporter_instance();
    for broken in ["", "short", &"x".repeat(500), "\u{e9}AAAAAAAAAAAAAAAAAAAA"] {
        std::fs::write(scene.folder.path().join("instance"), broken).unwrap();
        let again = || instance(scene.folder.path()).unwrap().0;
        let first = again();
        assert!(first.as_str().len() == INSTANCE_LENGTH && first != made);
        assert_eq!(again(), first);
    }
    std::fs::set_permissions(scene.folder.path().join("instance"), PermissionsExt::from_mode(0o666)).unwrap();
    assert!(instance(scene.folder.path()).unwrap_err().contains("others may write it"));
}

/// Two listeners of a broker may have the same folder.
#[test]
fn of_several_in_one_folder_each_has_its_own_name() {
    let folder = tempfile::tempdir().unwrap();
    let mut taken: Vec<_> = (0..MAX_INSTANCES).map(|_| instance(folder.path()).unwrap()).collect();
    let names: std::collections::HashSet<_> = taken.iter().map(|(name, _)| name.clone()).collect();
    assert_eq!(names.len(), MAX_INSTANCES);
    assert!(instance(folder.path()).unwrap_err().contains("already"));
    let (second, file) = taken.remove(1);
    drop(file);
    assert_eq!(instance(folder.path()).unwrap().0, second);
}

#[test]
fn clients_that_come_and_go_are_told_soon() {
    let scene = Scene::new();
    let _reporter = scene.reporter(SELDOM);
    let now = SystemClock.now();
    let first = scene.wait_for(1).remove(0);
    let part = first.sessions.unwrap();
    assert_eq!((part.part, part.online.len(), first.report.counters.unwrap().let_in), (0, 0, 0));
    scene.activity.let_in("pump-1", now, now.plus(60));
    scene.activity.denied("expired");
    let second = scene.wait_for(2).remove(1);
    let online = second.sessions.unwrap();
    assert_eq!((online.epoch, online.part, online.online.len()), (part.epoch, 1, 1));
    let counters = second.report.counters.unwrap();
    assert_eq!((counters.let_in, counters.denied["expired"]), (1, 1));
    // The issuer has lost it.
    scene.server.answer_sessions(Some(SessionsKept::BeginAnew));
    scene.activity.let_in("pump-2", now, now.plus(60));
    scene.wait_for(3);
    scene.server.answer_sessions(Some(SessionsKept::Kept));
    let anew = scene.wait_for(4).pop().unwrap().sessions.unwrap();
    assert_eq!((anew.part, anew.online.len(), anew.epoch == part.epoch), (0, 2, false));
    // One that keeps none is not asked again and again.
    scene.server.answer_sessions(None);
    scene.activity.parted("pump-1");
    let told = scene.wait_for(5).len();
    thread::sleep(Duration::from_millis(200));
    assert!(scene.server.reports().len() <= told + 1);
}
