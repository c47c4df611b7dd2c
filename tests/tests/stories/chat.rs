//! Somebody shouts without end: it is refused, and the others still hear one another.

use nodes::protocol::{Act, codes};
use tests::village::{Land, Plan, Reply, story};

fn says(channel: u8, text: &str) -> Act {
    Act::Chat { channel, text: text.to_owned() }
}

#[test]
fn a_flood_of_chat_is_refused_and_others_still_hear_one_another() {
    story(Plan::new([Land::meadow(1, "green", 128, 64)]), async |village| {
        let allowed = u64::from(village.content.tuning.chats_per_minute);
        let mut ann = village.person("Ann", 1, 30, 30).await;
        let mut bob = village.person("Bob", 1, 34, 30).await;
        let mut cid = village.person("Cid", 1, 30, 34).await;
        let mut far = village.person("Far", 1, 120, 30).await;
        ann.arrives("frontend-1").await;
        bob.arrives("frontend-2").await;
        cid.arrives("frontend-1").await;
        far.arrives("frontend-2").await;
        ann.sees_person(bob.player).await;

        // Cid shouts five times as much as one may.
        let (mut said, mut refused) = (0, 0);
        for number in 0..allowed * 5 {
            match cid.act(says(0, &format!("shout {number}"))).await.1 {
                Reply::Done(_) => said += 1,
                Reply::Refused(code, _) => {
                    assert!(matches!(code.as_str(), codes::FLOOD | codes::TOO_SOON | codes::BUSY), "{code}");
                    refused += 1;
                }
                Reply::Lost => panic!("Cid was thrown out: {}", cid.seen),
            }
        }
        assert!(said <= allowed * 2, "{said} of {} were let through", allowed * 5);
        assert!(refused >= allowed * 3, "only {refused} were refused");

        // Meanwhile and afterwards the others hear one another, near and on the whole island.
        ann.does(says(0, "hello Bob")).await;
        bob.waits_until("a greeting", |seen| seen.heard("hello Bob")).await;
        bob.does(says(2, "hello island")).await;
        far.waits_until("a greeting to all", |seen| seen.heard("hello island")).await;
        cid.waits_until("the greetings", |seen| seen.heard("hello Bob") && seen.heard("hello island")).await;
        assert!(!far.seen.heard("hello Bob"), "voices do not carry that far");
        let shouts = |seen: &tests::village::Seen| {
            seen.chats.iter().filter(|chat| chat.player == cid.player && chat.text.starts_with("shout")).count() as u64
        };
        assert_eq!(shouts(&bob.seen), said, "what was said was heard, what was refused was not");
        assert_eq!(shouts(&far.seen), 0);
    });
}
