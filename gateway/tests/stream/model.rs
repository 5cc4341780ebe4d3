//! Thousands of interleavings of what owners, tenants and clients do, against the real gateway with a model beside
//! it: whose credential goes where, with whose token, over whose connection, and for which hosts there is a certificate.
//! Seeds of failures are kept in `model-seeds.txt`. `CONNECTORS_MODEL_CASES` raises the number of walks.

mod clients;
mod gateway;
mod home;
mod targets;
mod tokens;
mod truth;

use proptest::prelude::*;
use proptest::test_runner::{Config, FileFailurePersistence, TestError, TestRunner};

use clients::{Call, NOBODY, Outcome};
use gateway::{Fault, Harness};
use home::Grantee;
use tokens::{Kind, Tokens, USERS};
use truth::{Asked, Connector, During, Model};

const CONNECTORS: [&str; 3] = ["a", "b", "c"];

#[derive(Clone, Debug)]
enum Step {
    /// Creates the connector, or changes its address.
    Write {
        connector: usize,
        target: usize,
    },
    Rotate {
        connector: usize,
    },
    Delete {
        connector: usize,
    },
    Grant {
        user: usize,
        connector: usize,
        to: Grantee,
    },
    /// Of whatever kind.
    Revoke {
        user: usize,
        connector: usize,
    },
    BreakClass,
    MendClass,
    Identity {
        user: usize,
        change: Change,
    },
    /// Time passes, as much as short tokens take to end and answers to be forgotten.
    Wait,
    Request {
        user: usize,
        connector: usize,
        way: Way,
    },
}

/// Of a user's ServiceAccount, its Pod and its token.
#[derive(Clone, Copy, Debug)]
enum Change {
    /// From now on the user comes with this one.
    Token(Kind),
    CreatePod,
    DeletePod,
    RecreateAccount,
}

#[derive(Clone, Copy, Debug)]
enum Way {
    /// Over a tunnel, `kept` from the last such request or a new one, and with somebody's token inside. Target 2 is
    /// nobody's.
    Tunnel {
        target: usize,
        kept: bool,
        inside: Option<usize>,
    },
    Reverse,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![16 => by_owners(), 9 => by_the_cluster(), 30 => by_users()]
}

fn by_owners() -> impl Strategy<Value = Step> {
    let (connector, user) = (0..CONNECTORS.len(), 0..USERS);
    let to = prop_oneof![3 => Just(Grantee::Account), 1 => Just(Grantee::Pod)];
    prop_oneof![
        6 => (connector.clone(), 0..2usize).prop_map(|(connector, target)| Step::Write { connector, target }),
        2 => connector.clone().prop_map(|connector| Step::Rotate { connector }),
        1 => connector.clone().prop_map(|connector| Step::Delete { connector }),
        10 => (user.clone(), connector.clone(), to).prop_map(|(user, connector, to)| Step::Grant { user, connector, to }),
        1 => (user, connector).prop_map(|(user, connector)| Step::Revoke { user, connector }),
        1 => Just(Step::BreakClass),
        2 => Just(Step::MendClass),
    ]
}

fn by_the_cluster() -> impl Strategy<Value = Step> {
    let kind = prop_oneof![
        12 => Just(Kind::Usual),
        1 => Just(Kind::Short),
        1 => Just(Kind::Ended),
        1 => Just(Kind::ForAnotherAudience),
    ];
    let change = prop_oneof![
        3 => kind.prop_map(Change::Token),
        1 => Just(Change::CreatePod),
        1 => Just(Change::DeletePod),
        2 => Just(Change::RecreateAccount),
    ];
    prop_oneof![
        3 => (0..USERS, change).prop_map(|(user, change)| Step::Identity { user, change }),
        2 => Just(Step::Wait),
    ]
}

fn by_users() -> impl Strategy<Value = Step> {
    let target = prop_oneof![5 => 0..2usize, 1 => Just(NOBODY)];
    let inside = prop_oneof![2 => Just(None::<usize>), 1 => (0..USERS).prop_map(Some)];
    let way = prop_oneof![
        3 => (target, any::<bool>(), inside)
            .prop_map(|(target, kept, inside)| Way::Tunnel { target, kept, inside }),
        1 => Just(Way::Reverse),
    ];
    (0..USERS, 0..CONNECTORS.len(), way).prop_map(|(user, connector, way)| Step::Request {
        user,
        connector,
        way,
    })
}

async fn walk(harness: &mut Harness, steps: &[Step]) -> Result<(), String> {
    let mut model = Model::default();
    harness.begin();
    (0..USERS).for_each(|user| model.hold(user, Kind::Usual, harness.home.tokens.issue(user, Kind::Usual)));
    for (at, step) in steps.iter().enumerate() {
        take(harness, &mut model, step).await.map_err(|why| format!("step {at}, {step:?}: {why}"))?;
    }
    harness.connections_of_two()
}

async fn take(harness: &mut Harness, model: &mut Model, step: &Step) -> Result<(), String> {
    match *step {
        Step::Write { connector, target } => {
            let broken = model.class_broken;
            let fresh = harness.write(CONNECTORS[connector], target);
            let known = model.connectors.entry(connector).or_insert_with(|| Connector {
                target,
                credentials: vec![fresh],
                unclear: broken,
            });
            known.unclear |= broken;
            known.target = target;
        }
        Step::Rotate { connector } => {
            if let Some(known) = model.connectors.get_mut(&connector) {
                known.credentials.push(harness.rotate(CONNECTORS[connector]));
                known.unclear |= model.class_broken;
            }
        }
        Step::Delete { connector } => {
            model.connectors.remove(&connector);
            harness.delete(CONNECTORS[connector]);
        }
        Step::Grant { user, connector, to } => {
            model.grant(user, connector, to);
            harness.home.grant(user, CONNECTORS[connector], to, true);
        }
        Step::Revoke { user, connector } => {
            for to in [Grantee::Account, Grantee::Pod] {
                harness.home.grant(user, CONNECTORS[connector], to, false);
            }
            model.revoke(user, connector);
        }
        Step::BreakClass => {
            model.class_broken = true;
            harness.class(true);
        }
        Step::MendClass => {
            model.class_broken = false;
            model.connectors.values_mut().for_each(|known| known.unclear = false);
            harness.class(false);
        }
        Step::Identity { user, change } => identity(&harness.home.tokens, model, user, change),
        Step::Wait => tokio::time::sleep(model.until_settled()).await,
        Step::Request { user, connector, way } => return request(harness, model, user, connector, way).await,
    }
    Ok(())
}

fn identity(tokens: &Tokens, model: &mut Model, user: usize, change: Change) {
    match change {
        Change::Token(kind) => model.hold(user, kind, tokens.issue(user, kind)),
        Change::CreatePod => {
            tokens.create_pod(user);
            model.create_pod(user);
        }
        Change::DeletePod => {
            tokens.delete_pod(user);
            model.delete_pod(user);
        }
        Change::RecreateAccount => {
            tokens.recreate(user);
            model.recreate(user);
        }
    }
}

async fn request(
    harness: &mut Harness,
    model: &Model,
    user: usize,
    connector: usize,
    way: Way,
) -> Result<(), String> {
    let (name, (number, token)) = (CONNECTORS[connector], model.held(user));
    let during = During::begin();
    let Way::Tunnel { target, kept, inside } = way else {
        let outcome = harness.clients.reverse(name, &token.text).await;
        let during = during.end();
        let asked = Asked { user, connector, target: None };
        return model.judge(&asked, &during, model.reversed(user, &during), &outcome);
    };
    let (token, within) =
        ((number, token.text.as_str()), inside.map(|user| model.held(user).1.text.as_str()));
    let call = Call { user, connector: name, target, kept, token, inside: within };
    let (outcome, opened) = harness.clients.tunnel(&call).await?;
    let during = during.end();
    let asked = Asked { user, connector, target: Some(target) };
    match (target == NOBODY, &outcome) {
        (true, Outcome::Refused(_)) => Ok(()),
        (true, Outcome::Served { .. }) => Err("nobody's host was reached".to_owned()),
        (false, _) => model.judge(&asked, &during, model.tunnelled(&opened, inside, &during), &outcome),
    }
}

/// How the walks ended: well, or with the shortest one that did not.
/// Gives how many requests were served.
fn run(fault: Fault, cases: u32, seeds: Option<&'static str>) -> Result<usize, (String, Vec<Step>)> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let harness = tokio::sync::Mutex::new(runtime.block_on(Harness::new(fault)));
    let persistence = seeds.map(|seeds| Box::new(FileFailurePersistence::Direct(seeds)) as Box<_>);
    let config =
        Config { cases, failure_persistence: persistence, max_shrink_time: 5_000, ..Config::default() };
    let outcome = TestRunner::new(config).run(&proptest::collection::vec(step(), 40..120), |steps| {
        let walked = runtime.block_on(async { walk(&mut *harness.lock().await, &steps).await });
        walked.map_err(TestCaseError::fail)
    });
    match outcome {
        Ok(()) => Ok(harness.into_inner().served()),
        Err(TestError::Fail(why, steps)) => Err((why.to_string(), steps)),
        Err(TestError::Abort(why)) => panic!("the walks were not taken: {why}"),
    }
}

#[test]
fn no_walk_sends_a_credential_astray_shares_a_connection_or_mints_for_nobody() {
    let cases = std::env::var("CONNECTORS_MODEL_CASES").map_or(60, |cases| cases.parse().expect("a number"));
    match run(Fault::None, cases, Some("tests/stream/model-seeds.txt")) {
        Ok(served) => assert!(served > cases as usize, "{served} requests of {cases} walks were served"),
        Err((why, steps)) => panic!("{why}\nafter {steps:#?}"),
    }
}

/// A model that finds nothing proves nothing.
#[test]
fn each_planted_fault_is_found() {
    for (fault, words) in [
        (Fault::KeyWithoutConnector, "one connection to a target"),
        (Fault::KeyWithoutVersion, "one connection to a target"),
        (Fault::NoHostCheck, "a certificate for nobody's host"),
        (Fault::TokensKept, "with a token that counts no more"),
    ] {
        let (why, steps) = run(fault, 200, None).expect_err("the fault was not found");
        assert!(why.contains(words), "{fault:?}: {why} after {steps:?}");
    }
}
