use super::*;

fn shell(script: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", script]);
    command
}

#[test]
fn output_and_exit_code_are_kept() {
    let finished = run(shell("echo out; echo err >&2; printf unfinished; exit 3"));
    assert_eq!(finished.code, Some(3));
    assert_eq!(finished.stdout, "out\nunfinished\n");
    assert_eq!(finished.stderr, "err\n");
}

#[test]
fn a_line_can_be_awaited_again() {
    let mut cat = Running::spawn(shell("cat"));
    cat.say("good morning");
    assert_eq!(cat.wait_for("morning"), "good morning");
    let before = cat.position();
    assert_eq!(cat.find_since(before, Duration::from_millis(50), |line| Some(line.clone())), None);
    cat.say("again morning");
    assert_eq!(cat.wait_for_since(before, "morning"), "again morning");
    assert!(cat.is_running());
    cat.end_of_input();
    assert_eq!(cat.wait().code, Some(0));
}

#[test]
#[should_panic(expected = "never said \"the word\"; it said:\nanother")]
fn a_program_that_ends_is_not_waited_for() {
    Running::spawn(shell("echo another")).wait_for("the word");
}

#[test]
fn stopping_is_gentle_first() {
    let mut gentle =
        Running::spawn(shell("trap 'echo bye; exit 7' TERM; echo ready; while :; do sleep 0.05; done"));
    gentle.wait_for("ready");
    let finished = gentle.stop();
    assert_eq!((finished.code, finished.stdout.as_str()), (Some(7), "ready\nbye\n"));
}

#[test]
fn dropping_ends_even_the_deaf() {
    let deaf = Running::spawn(shell("trap '' TERM; echo ready; while :; do sleep 0.05; done"));
    deaf.wait_for("ready");
    let pid = Pid::from_raw(deaf.pid().try_into().unwrap()).unwrap();
    assert!(rustix::process::test_kill_process(pid).is_ok());
    drop(deaf);
    assert!(rustix::process::test_kill_process(pid).is_err());
}
