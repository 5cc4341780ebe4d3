//! The end of a volume: whatever state it is in, kubelet must get rid of it, and nothing that is not ours may
//! be touched.

use std::fs;

use rustix::mount::{MountFlags, UnmountFlags};
use tonic::Code;

use crate::cluster::Demo;
use crate::kubelet::{Kubelet, PodVolume};
use crate::namespace::isolated;

#[test]
fn unpublish_leaves_nothing_and_may_be_repeated() {
    isolated(async {
        let (demo, kubelet) = (Demo::new("ended").await, Kubelet::start().await);
        let volume = kubelet.volume(demo.namespace, "job", "a.b.c");
        kubelet.publish(&volume).await.unwrap();
        for _ in 0..3 {
            kubelet.unpublish(&volume).await.unwrap();
            assert!(volume.mounts().is_empty() && !volume.target.exists());
        }
        fs::remove_dir_all(kubelet.folder.path().join("pods")).unwrap();
        kubelet.unpublish(&volume).await.expect("not even the Pod's folder is needed");
    });
}

#[test]
fn unpublish_needs_no_api_server_and_works_while_a_file_is_open() {
    isolated(async {
        let (demo, kubelet) = (Demo::new("outage").await, Kubelet::start().await);
        let volume = kubelet.volume(demo.namespace, "job", "a.b.c");
        kubelet.publish(&volume).await.unwrap();
        let nobody = kube::Config::new("http://127.0.0.1:9".parse().unwrap());
        kubelet.driver.stop().await.unwrap();
        let without_api = Kubelet::with_client(nobody.try_into().unwrap()).await;
        let open = fs::File::open(volume.target.join("kubeconfig")).unwrap();
        without_api.unpublish(&volume).await.unwrap();
        assert!(volume.mounts().is_empty() && !volume.target.exists());
        assert!(std::io::read_to_string(open).unwrap().contains("kind: Config"));
    });
}

/// A driver that is killed between the mount and its first files leaves an empty one. After a final refusal kubelet does not ask
/// to unpublish.
#[test]
fn an_empty_mount_that_an_earlier_driver_left_goes_with_the_refusal_of_its_volume() {
    isolated(async {
        let (demo, kubelet) = (Demo::new("killed").await, Kubelet::start().await);
        let volume = kubelet.volume(demo.namespace, "job", "a.b.c");
        let refused: [(&str, PodVolume, Code); 3] = [
            ("connector", volume.clone().with("connector.name", "gone"), Code::NotFound),
            ("attribute", volume.clone().with("connector.nam", "k8s"), Code::InvalidArgument),
            ("none", volume.clone(), Code::Ok),
        ];
        for (what, volume, code) in refused {
            fs::create_dir_all(&volume.target).unwrap();
            let flags = MountFlags::empty();
            rustix::mount::mount("connectors-csi", &volume.target, "tmpfs", flags, None).unwrap();
            let answer = kubelet.publish(&volume).await;
            assert_eq!(answer.map_or_else(|refusal| refusal.code(), |()| Code::Ok), code, "{what}");
            assert_eq!(volume.mounts().is_empty() && !volume.target.exists(), code != Code::Ok, "{what}");
        }
        assert_eq!(volume.read("context.token"), "a.b.c");
        kubelet.unpublish(&volume).await.unwrap();
    });
}

#[test]
fn the_mount_or_the_files_of_somebody_else_are_never_touched() {
    isolated(async {
        let (demo, kubelet) = (Demo::new("foreign").await, Kubelet::start().await);
        let volume = kubelet.volume(demo.namespace, "job", "a.b.c");
        fs::create_dir(&volume.target).unwrap();
        rustix::mount::mount("other", &volume.target, "tmpfs", MountFlags::empty(), None).unwrap();
        fs::write(volume.target.join("precious"), "x").unwrap();
        for result in [kubelet.publish(&volume).await, kubelet.unpublish(&volume).await] {
            let refusal = result.unwrap_err();
            assert_eq!(refusal.code(), Code::FailedPrecondition, "{refusal}");
        }
        assert_eq!((volume.read("precious"), volume.mounts().len()), ("x".to_owned(), 1));

        rustix::mount::unmount(&volume.target, UnmountFlags::empty()).unwrap();
        fs::write(volume.target.join("plain"), "x").unwrap();
        assert_eq!(kubelet.unpublish(&volume).await.unwrap_err().code(), Code::FailedPrecondition);
        assert_eq!(volume.read("plain"), "x");
    });
}
